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
    "test_asyncio.test_tasks", "test_asyncio.test_events", "test_asyncio.test_futures", "test_asyncio.test_streams",
)  # fmt: skip

_RAISES = "its signal handler raises: that leaves the loop, which is where Python runs handlers while a worker waits"
_FRAME = "it counts references while a traceback lives: the shim's frame there holds its argument, as any Python call's"
_SIGINT = "SIGINT is the loop's while it runs: it cancels, where a main thread without a loop gets KeyboardInterrupt"
_TRACED = "it traces all calls: a shim shows, as a Python function where there was one of C, which is not traced"
_ASYNCGENS = "the thread's loop has its own hooks for asynchronous generators in place, and a worker is in its thread"
_TASK = "from 3.12 on a log record names the asyncio task it was made in: a worker on asyncio is in one"
_MAIN = "in a worker current_thread() is the call's own object, and never main_thread()"
_IDENT = "in a worker get_ident() is the call's own number, and C knows the thread by its real one"
_HANDLER = "its signal handler runs in the loop, and the test compares get_ident() there with the worker's"
_MARSHAL = "xmlrpc refuses a function of C, and takes the shim, a Python function, for an instance"
_RACE = "a result is there a moment before its process counts as idle, and a worker is woken sooner than a thread"

_PROCESSES = {
    "WithManagerTestRemoteManager.test_remote": _MARSHAL,
    "*.test_shared_memory_SharedMemoryServer_ignores_sigint": _SIGINT,
    "WithProcessesTestCondition.test_wait_result": _SIGINT,
}

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
        "ThreadTests.test_main_thread": _MAIN,
        "ThreadTests.test_PyThreadState_SetAsyncExc": _IDENT,
        "ExceptHookTests.test_excepthook_thread_None": _IDENT,
    },
    "test_unittest": {
        "*test_break.*.testHandlerReplacedButCalled": _SIGINT,
        "*test_break.*.testInstallHandler": _SIGINT,
        "*test_break.*.testRemoveHandlerAsDecorator": _SIGINT,
        "*test_break.*.testRemoveResult": _SIGINT,
        "*test_break.*.testSecondInterrupt": _SIGINT,
    },
    "test_io": {
        "*SignalsTest.test_interrupted_write_buffered": _RAISES,
        "*SignalsTest.test_interrupted_write_text": _RAISES,
        "*SignalsTest.test_interrupted_write_unbuffered": _RAISES,
    },
    "test_logging": {"LogRecordTest.test_optional": _TASK},
    "test_sys": {"SizeofTest.test_asyncgen_hooks": _ASYNCGENS},
    "test_sys_settrace": {"*.test_async_for_backwards_jump_has_no_line": _ASYNCGENS},
    "test_threadsignals": {
        "ThreadSignals.test_*lock_acquire_interruption": _RAISES,
        "ThreadSignals.test_signals": _HANDLER,
    },
    "test_pdb": {"test_pdb_issue_20766": _SIGINT},
    "test_bdb": {"StateTestCase.test_skip": _TRACED},
    "test_generators": {"SignalAndYieldFromTest.test_raise_and_yield_from": _SIGINT},
    "test_asyncio": {  # its modules can be given too: test_asyncio.test_futures
        "test_runners.RunTests.test_asyncio_run_without_uncancel": _SIGINT,
        "test_runners.RunnerTests.test_interrupt_*": _SIGINT,
        "test_runners.RunnerTests.test_signal_install_not_supported_ok": _MAIN,
    },
    "test_multiprocessing_fork": _PROCESSES,
    "test_multiprocessing_spawn": _PROCESSES,
    "test_multiprocessing_forkserver": _PROCESSES,
    "test_concurrent_futures": {"*.test_idle_process_reuse_one": _RACE},
    "test_selectors": {"*.test_select_interrupt_exc": _RAISES},
}


def listed(module: str) -> dict[str, str]:
    """What is not run of a module, or of one of a package's."""
    package, _, name = module.partition(".")
    within = {pattern.removeprefix(f"{name}."): why for pattern, why in SKIPS.get(package, {}).items()
              if name and pattern.startswith(("*", f"{name}."))}  # fmt: skip
    return within | SKIPS.get(module, {})
