"""Layer 1: phases and events, their order, the observers and the gates. The standard library only.

| file | what it holds |
|---|---|
| phases | the phases of a connection and of an exchange |
| events | one frozen class for each event |
| order | which event may follow which; the tests' order check |
| emitter | ``Emitter``: tell observers, ask gates |
| frozen_dataclass | frozen dataclasses that are cheap to make |
"""
