"""The admin port: probes, metrics, and a page that shows an operator the state of the process.

Everything here answers from two values that the loop keeps up to date, ``Metrics`` and ``Status``, and is read-only but
for what people may tell the daemon where ``http.control`` allows it. The page is one constant document; its script polls ``/api/status`` once a second and shows names as
text, never as markup. Polling needs no connection state, and survives restarts and proxies.

* ``app``: the routes and the headers of every answer.
* ``control``: the requests by which the page tells the daemon something, and what guards them; ``desk``: what they say.
* ``hosts``: which ``Host`` a request may carry.
* ``server``: the bound port and the deadlines of its connections.
* ``snapshot``: ``Status`` as JSON; ``told``: the part of it that is about people.
* ``page.html``, ``page.css``, ``sparkline.js``, ``people.js``, ``tell.js``, ``page.js``: the page, on top of what ``adapters.pages`` holds
  for all pages.
"""

from daemon.adapters.admin.app import PAGE, create_app
from daemon.adapters.admin.control import MOST_BODY
from daemon.adapters.admin.desk import Control, Desk, EndedStop, NewStop
from daemon.adapters.admin.hosts import Hosts
from daemon.adapters.admin.server import AdminServer, serve
from daemon.adapters.admin.snapshot import snapshot

__all__ = [
    "MOST_BODY",
    "PAGE",
    "AdminServer",
    "Control",
    "Desk",
    "EndedStop",
    "Hosts",
    "NewStop",
    "create_app",
    "serve",
    "snapshot",
]
