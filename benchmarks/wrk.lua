-- The same script for every server: it may set the request that wrk repeats, and prints wrk's counts as JSON.
-- It has no request() or response(): they would run in Lua for each request and slow the load down.

function init(args)
  if args[1] then
    wrk.method = args[1]
    wrk.body = args[2]
    wrk.headers["Content-Type"] = args[3]
  end
end

function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    'RESULT {"requests": %d, "duration_us": %d, "bytes": %d, "p50_us": %d, "p99_us": %d, ' ..
    '"errors": {"connect": %d, "read": %d, "write": %d, "timeout": %d, "status": %d}}\n',
    summary.requests, summary.duration, summary.bytes, latency:percentile(50), latency:percentile(99),
    errors.connect, errors.read, errors.write, errors.timeout, errors.status))
end
