"""What is not run, and why: patterns of ``Class.method`` by module. Nothing stands here that only failed.

Either a plain thread fails it as well (seen with ``--plain --all``), or what it tests cannot be so in a worker.
"""

from __future__ import annotations

#: The set that ``make conformance`` runs; the longest first, as they run side by side.
MODULES = (
    "test_socket", "test_ssl", "test_signal", "test_threading", "test_logging", "test_subprocess", "test_xmlrpc",
    "test_io", "test_imaplib", "test_selectors", "test_ftplib", "test_poll", "test_poplib", "test_queue", "test_os",
    "test_threadsignals", "test_pdb", "test_select", "test_epoll", "test_fcntl", "test_httplib", "test_httpservers",
    "test_smtplib", "test_nntplib", "test_telnetlib", "test_socketserver", "test_timeout", "test_asyncore",
    "test_asynchat", "test_urllib2_localnet", "test_wsgiref", "test_docxmlrpc", "test_thread", "test_threading_local",
    "test_threadedtempfile", "test_tempfile", "test_shutil", "test_mailbox", "test_sqlite3", "test_pty", "test_openpty",
    "test_popen", "test_pipes", "test_fork1", "test_wait3", "test_wait4", "test_file_eintr", "test_sched", "test_time",
    "test_file", "test_fileio", "test_context", "test_contextlib", "test_contextlib_async", "test_coroutines",
    "test_asyncgen", "test_generators", "test_bdb", "test_sys_settrace", "test_import", "test_concurrent_futures",
)  # fmt: skip

_RAISES = "its signal handler raises: that leaves the loop, which is where Python runs handlers while a worker waits"
_FRAME = "it counts references while a traceback lives: the shim's frame there holds its argument, as any Python call's"
_SIGINT = "SIGINT is the loop's while it runs: it cancels, where a main thread without a loop gets KeyboardInterrupt"
_TRACED = "it traces all calls: a shim shows, as a Python function where there was one of C, which is not traced"
_ASYNCGENS = "the thread's loop has its own hooks for asynchronous generators in place, and a worker is in its thread"

SKIPS: dict[str, dict[str, str]] = {
    "test_signal": {
        "PidfdSignalTest.test_pidfd_send_signal": _SIGINT,
        "RaiseSignalTest.test_sigint": _SIGINT,
    },
    "test_socket": {
        "TCPTimeoutTest.testInterruptedTimeout": _RAISES,
        "Interrupted*TimeoutTest.*": _RAISES,
        "GeneralModuleTests.testRefCountGetNameInfo": _FRAME,
        "GeneralModuleTests.test_sendall_interrupted*": _RAISES,
    },
    "test_threading": {
        "InterruptMainTests.test_interrupt_main_mainthread": _SIGINT,
        "InterruptMainTests.test_interrupt_main_subthread": _SIGINT,
    },
    "test_unittest": {"*test_break.*": _SIGINT},
    "test_io": {"*SignalsTest.test_interrupted_write_*": _RAISES},
    "test_sys": {"SizeofTest.test_asyncgen_hooks": _ASYNCGENS},
    "test_sys_settrace": {"*.test_async_for_backwards_jump_has_no_line": _ASYNCGENS},
    "test_threadsignals": {"ThreadSignals.test_*lock_acquire_interruption": _RAISES},
    "test_pdb": {"test_pdb_issue_20766": _SIGINT},
    "test_bdb": {"StateTestCase.test_skip": _TRACED},
    "test_generators": {"SignalAndYieldFromTest.test_raise_and_yield_from": _SIGINT},
    "test_selectors": {"*.test_select_interrupt_exc": _RAISES},
}
