"""Makes text in figures whole: writes matplotlib's list of fonts, with other systems' names for
the fonts that are here, and lets every text fall back on fonts of other scripts.

matplotlib knows no aliases and takes one font a text. So a figure of code that asks for Arial or
SimHei has a warning and the wrong font, and one in Hindi has boxes, also where a style of
matplotlib or seaborn has set the fonts.
"""

import dataclasses
import pathlib

import matplotlib
from matplotlib import font_manager

# Fonts by the names that they have elsewhere: (ours, theirs...). The first five are metric-compatible.
ALIASES = [
    ("Liberation Sans", "Arial", "Helvetica", "Helvetica Neue"),
    ("Liberation Serif", "Times New Roman", "Times"),
    ("Liberation Mono", "Courier New", "Courier"),
    ("Carlito", "Calibri"),
    ("Caladea", "Cambria"),
    # Those of web pages and of matplotlib's cursive and fantasy have the nearest that is here.
    ("DejaVu Sans", "Verdana", "Tahoma", "Segoe UI", "Lucida Grande", "Trebuchet MS", "Roboto",
     "Open Sans", "Lato", "Inter", "Ubuntu", "Impact"),
    ("DejaVu Serif", "Georgia", "Palatino", "Palatino Linotype", "Garamond", "Book Antiqua"),
    ("DejaVu Sans Mono", "Consolas", "Menlo", "Monaco"),
    # matplotlib's xkcd() names these, and warns of each that is missing.
    ("Humor Sans", "xkcd", "xkcd Script"),
    ("Comic Neue", "Comic Sans MS", "Comic Sans", "Chalkboard"),
    ("Symbola", "Noto Color Emoji", "Noto Emoji", "Segoe UI Emoji", "Apple Color Emoji"),
    ("Noto Sans Devanagari", "Mangal", "Nirmala UI", "Kokila", "Lohit Devanagari"),
    ("Noto Sans CJK SC", "SimHei", "SimSun", "Microsoft YaHei", "KaiTi", "FangSong", "PingFang SC",
     "Heiti SC", "STHeiti", "STSong", "Songti SC", "Arial Unicode MS", "Source Han Sans SC",
     "Source Han Sans CN", "Noto Sans SC", "Noto Sans CJK", "WenQuanYi Zen Hei",
     "WenQuanYi Micro Hei"),
    ("Noto Sans CJK TC", "Microsoft JhengHei", "PMingLiU", "MingLiU", "PingFang TC", "Noto Sans TC"),
    ("Noto Sans CJK JP", "MS Gothic", "MS Mincho", "Yu Gothic", "Meiryo", "Hiragino Sans",
     "Hiragino Maru Gothic Pro", "IPAexGothic", "IPAGothic", "TakaoGothic", "TakaoPGothic",
     "Noto Sans JP"),
    ("Noto Sans CJK KR", "Malgun Gothic", "AppleGothic", "NanumGothic", "NanumBarunGothic", "Batang",
     "Gulim", "Noto Sans KR"),
]

# What a text falls back on, in this order, for characters that its own font lacks.
FALLBACKS = ["DejaVu Sans", "Noto Sans CJK SC", "Noto Sans Arabic", "Noto Sans Devanagari",
             "Noto Sans Bengali", "Noto Sans Gurmukhi", "Noto Sans Gujarati", "Noto Sans Tamil",
             "Noto Sans Telugu", "Noto Sans Kannada", "Noto Sans Malayalam", "Noto Sans Sinhala",
             "Noto Sans Thai", "Noto Sans Lao", "Noto Sans Khmer", "Noto Sans Myanmar",
             "Noto Sans Hebrew", "Noto Sans Ethiopic", "Noto Sans Oriya", "Noto Serif Tibetan",
             "Noto Sans Mongolian", "Noto Sans Thaana", "Noto Sans Cherokee", "Noto Sans Math",
             "Symbola", "Noto Sans Symbols2"]

# Added to matplotlib/font_manager.py. Each family has a regular and a bold face; where fonts
# are chosen is the one place that all backends share and no style or setting passes by.
CODE = '''

# Added by the recipe of this image: texts fall back on fonts of other scripts.
_FALLBACKS = {fallbacks!r}


def _with_fallbacks(find):
    def found(self, prop, *args, **kwargs):
        fonts = find(self, prop, *args, **kwargs)
        bold = _normalize_weight(FontProperties._from_any(prop).get_weight()) >= 600
        rest = (FontPath(*faces[bold]) for faces in _FALLBACKS)
        return fonts + [font for font in rest if font not in fonts]
    return found


FontManager._find_fonts_by_props = _with_fallbacks(FontManager._find_fonts_by_props)
'''


def sorted_fonts(manager):
    """Orders the fonts, so that the list does not depend on the disk, and leaves out our links."""
    manager.ttflist = [f for f in manager.ttflist if not f.fname.startswith("/usr/local/share/fonts/")]
    for fonts in (manager.ttflist, manager.afmlist):
        fonts.sort(key=lambda font: (font.fname, getattr(font, "index", 0), font.name, str(font.weight)))


def add_aliases(manager):
    names = {font.name for font in manager.ttflist}
    for ours, *theirs in ALIASES:
        faces = [font for font in manager.ttflist if font.name == ours]
        manager.ttflist += [dataclasses.replace(face, name=name)
                            for name in theirs if name not in names for face in faces]


def add_weights(manager):
    """Lets fonts be asked for any weight: matplotlib warns if a face has not that very one."""
    for font in list(manager.ttflist):
        if font.name in ("Humor Sans", "xkcd", "xkcd Script"):  # one face
            manager.ttflist += [dataclasses.replace(font, weight=w) for w in (300, 500, 600, 700, 800, 900)]
        if font.name in ("DejaVu Sans", "Liberation Sans", "Arial", "Helvetica"):
            weights = {"normal": (300, 500), 400: (300, 500), "bold": (600, 800, 900), 700: (600, 800, 900)}
            manager.ttflist += [dataclasses.replace(font, weight=w) for w in weights.get(font.weight, ())]


def fallback_faces(manager):
    """Returns (path, index) of the regular and the bold face of each family that is here."""
    found = []
    for name in FALLBACKS:
        faces = {font.weight in ("bold", 700): (font.fname, font.index)
                 for font in manager.ttflist
                 if font.name == name and font.style == "normal" and font.weight in (400, "normal", 700, "bold")}
        if faces:
            regular = faces.get(False, faces.get(True))
            found.append((regular, faces.get(True, regular)))
    return found


def main():
    manager = font_manager.fontManager
    sorted_fonts(manager)
    add_aliases(manager)
    add_weights(manager)
    [cache] = pathlib.Path(matplotlib.get_cachedir()).glob("fontlist-*.json")
    font_manager.json_dump(manager, cache)
    print(CODE.format(fallbacks=fallback_faces(manager)))


main()
