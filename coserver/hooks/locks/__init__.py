"""The family "locks": locks between workers of one loop, of other loops, and other threads.

- ``mutex``: ``threading.Lock``, and with it Condition, Event, Queue, Future; the ``ROWS`` of the whole family
- ``rlock``: ``threading.RLock``, in C and in Python
- ``simple_queue``: ``queue.SimpleQueue``
- ``thread_join``: ``Thread.join``
- ``import_lock``: the locks of the import system
- ``log_handlers``: log records of loop code, while a worker holds the log handler's lock
- ``waiters``: the queues of workers that wait for a lock; the strategies "wake" and "retry"
- ``owners``: which worker holds which lock, and who calls; the error of loop code that would wait for a worker
"""
