"""What axe finds wrong on a page in a browser."""

SEVERE = ("serious", "critical")


def violations(page, *, severe=True, context=None, rules=None):
    """Pairs (rule, start of the first element); severe: only what is serious or critical.

    context: the part of the page that is looked at, all of it by default; rules: further options of axe's run.
    """
    from axe_playwright_python.sync_playwright import Axe

    options = dict(preload=False, resultTypes=["violations"]) | (rules or {})
    found = Axe().run(page, context=context, options=options).response["violations"]
    return [(each["id"], each["nodes"][0]["html"][:120]) for each in found if not severe or each["impact"] in SEVERE]
