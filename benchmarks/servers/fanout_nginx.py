"""nginx with lua: `python -m benchmarks.servers.fanout_nginx PORT` writes a configuration, then executes nginx."""

import os
import sys
import tempfile
from pathlib import Path

from benchmarks.backend import find_nginx

MODULES = ("ndk_http_module.so", "ngx_http_lua_module.so")
FOLDERS = ("/usr/lib/nginx/modules", "/usr/share/nginx/modules", "/usr/lib64/nginx/modules")
CONFIGURATION = """
{modules}
worker_processes 1; daemon off; master_process off; error_log stderr; pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 600;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  upstream back {{ server 127.0.0.1:{back}; keepalive 400; keepalive_requests 1000000000; keepalive_timeout 600; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    default_type text/plain;
    location /back/ {{ internal; proxy_pass http://back/; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    location = /page {{ content_by_lua_block {{
      local asked = {{}}
      for i = 1, 10 do asked[i] = {{ "/back/x" }} end
      local got = {{ ngx.location.capture_multi(asked) }}
      local bodies = {{}}
      for i, one in ipairs(got) do bodies[i] = one.body end
      local page = table.concat(bodies)
      ngx.header.content_length = #page
      ngx.print(page)
    }} }}
  }}
}}
"""

if __name__ == "__main__":
    where = next((one for one in FOLDERS if Path(one, MODULES[1]).is_file()), None)
    if where is None:
        raise SystemExit("nginx's lua module is missing; on Debian and Ubuntu install libnginx-mod-http-lua")
    modules = "\n".join(f"load_module {where}/{module};" for module in MODULES)
    folder = tempfile.mkdtemp(prefix="fanout-nginx-")
    back = os.environ.get("BENCHMARK_BACKEND", "1")
    path = Path(folder, "nginx.conf")
    path.write_text(CONFIGURATION.format(modules=modules, folder=folder, back=back, port=sys.argv[1]))
    nginx = find_nginx()
    os.execv(nginx, [nginx, "-e", "stderr", "-p", folder, "-c", str(path)])
