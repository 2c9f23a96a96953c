"""Pages of HTML, parsed."""

from html.parser import HTMLParser
from types import SimpleNamespace

# Elements without an end.
VOID = {"meta", "img", "input", "link", "br", "hr"}


class Page(HTMLParser):
    """Elements of a page, in order; their names, attributes and text."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open, f"not closed: {[element.tag for element in self.open]}"

    def handle_starttag(self, tag, attrs):
        element = SimpleNamespace(tag=tag, attrs=dict(attrs), text="", inside=list(self.open))
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open[-1].tag == tag, f"</{tag}> ends <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data):
        for element in self.open:
            element.text += data

    def all(self, tag, **attrs):
        """Elements of a name, with attributes of these values."""
        wanted = {name.replace("_", "-"): value for name, value in attrs.items()}
        return [e for e in self.elements if e.tag == tag and wanted.items() <= e.attrs.items()]

    def within(self, identifier, tag):
        """Elements of a name inside the element with an id."""
        return [e for e in self.all(tag) if any(o.attrs.get("id") == identifier for o in e.inside)]

    @property
    def text(self):
        return self.elements[0].text


def check_self_contained(page):
    """Fail if a page loads anything, has a picture without description, or repeats an id."""
    for element in page.elements:
        for name in ("src", "srcset", "poster", "data", "action", "background"):
            address = element.attrs.get(name)
            assert address is None or address.startswith("data:image/"), (element.tag, address)
        if element.tag == "a":
            href = element.attrs["href"]
            assert href.startswith(("#", "https://doi.org/")) or "//" not in href
    assert not page.all("link") and not page.all("iframe") and not page.all("object")
    assert all("src" not in script.attrs for script in page.all("script"))
    styles = "".join(style.text for style in page.all("style"))
    assert "url(" not in styles and "@import" not in styles
    policy = page.all("meta", http_equiv="Content-Security-Policy")[0].attrs["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert page.all("img")
    for image in page.all("img"):
        assert len(image.attrs["alt"]) > 10
        assert int(image.attrs["width"]) > 0 and int(image.attrs["height"]) > 0
    identifiers = [e.attrs["id"] for e in page.elements if "id" in e.attrs]
    assert len(set(identifiers)) == len(identifiers)
    targets = [a.attrs["href"][1:] for a in page.all("a") if a.attrs["href"].startswith("#")]
    assert set(targets) <= set(identifiers)
    referred = [
        e.attrs[n] for e in page.elements for n in ("for", "aria-labelledby") if n in e.attrs
    ]
    assert set(referred) <= set(identifiers)
