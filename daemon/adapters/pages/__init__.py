"""What the HTML pages share: their style, their scripts, and the class that puts a page together.

A page is a package of its own (``admin``, ``report``, ``latent_page``, ``root_cause_page``,
``counterfactual_page``) with ``page.html``, ``page.css`` and ``page.js`` beside its Python. The files here are
put in front of those: ``base.css`` (colours, type, tables, chips), ``dom.js`` (elements, numbers, times),
``episodes.js`` (parts of the tables of episodes) and ``charts.js`` (what every plotly.js chart is drawn with).

``Page`` (module ``page``) reads the files, fills the slots of the markup, and computes the content security
policy from the hashes of exactly the styles and scripts that it embeds. ``bounded``, ``contributor_rows`` and ``encoded`` (module
``values``) prepare names and JSON; ``panels`` names the panels of charts.
"""

from daemon.adapters.pages.page import Page
from daemon.adapters.pages.panels import panel_names, panel_title
from daemon.adapters.pages.values import bounded, contributor_rows, encoded

__all__ = ["Page", "bounded", "contributor_rows", "encoded", "panel_names", "panel_title"]
