"""The admin port: probes, metrics, and a page that shows an operator the state of the process.

Everything here is read-only and answers from two values that the loop keeps up to date: ``Metrics`` and
``Status``. The page is one constant document; its script polls ``/api/status`` once a second and shows names as
text, never as markup. Polling needs no connection state, and survives restarts and proxies.

* ``app``: the routes and the headers of every answer.
* ``hosts``: which ``Host`` a request may carry.
* ``server``: the bound port and the deadlines of its connections.
* ``snapshot``: ``Status`` as JSON.
* ``page.html``, ``page.css``, ``sparkline.js``, ``page.js``: the page, on top of what ``adapters.pages`` holds
  for all pages.
"""

from daemon.adapters.admin.app import PAGE, create_app
from daemon.adapters.admin.hosts import Hosts
from daemon.adapters.admin.server import AdminServer, serve
from daemon.adapters.admin.snapshot import snapshot

__all__ = ["PAGE", "AdminServer", "Hosts", "create_app", "serve", "snapshot"]
