"""The members of an upstream on one loop, and the connections to them.

| file | what it holds |
|---|---|
| client | ``Client``: an upstream on one loop; ``place`` decides where a subrequest goes |
| members | the pools of all members, and the choice among them |
| pool | the connections to one member, and the queue of subrequests |
| dns | names: one member for each address, looked up again and again |
| balance | the policies that choose a member |
| health | ejections and checks |
| retry | second attempts: retries and hedges |
| hold | subrequests held at gates |
| detach | subrequests that outlive their exchange |
"""
