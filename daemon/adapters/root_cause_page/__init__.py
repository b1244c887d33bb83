"""The page of an episode's cause: what is wrong, since when, with which sensor, and what it should be.

It is read by people of the plant, so its first lines say in words what the charts show. It is one document that
loads nothing; names are data, and are shown as text.

* ``wording``: numbers, times and sentences.
* ``document``: the explanation as JSON.
* ``figures``: its charts.
* ``html``, ``page.html``, ``page.css``, ``page.js``: the page around them.
"""

from daemon.adapters.root_cause_page.html import root_cause_html
from daemon.adapters.root_cause_page.wording import consequence, headline

__all__ = ["consequence", "headline", "root_cause_html"]
