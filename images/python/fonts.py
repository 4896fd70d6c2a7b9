"""Makes text in figures whole: writes matplotlib's list of fonts, with other systems' names for
the fonts that are here, and lets every text fall back on fonts of other scripts.

matplotlib knows no aliases and takes one font a text. So a figure of code that asks for Arial or
SimHei has a warning and the wrong font, and one in Hindi has boxes, also where a style of
matplotlib or seaborn has set the fonts.
"""

import dataclasses
import pathlib
import sys

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
     "Open Sans", "Lato", "Inter", "Ubuntu", "Impact", "Montserrat", "Poppins", "Raleway",
     "Source Sans Pro", "Century Gothic", "Futura", "Gill Sans", "Gill Sans MT", "Optima", "Candara",
     "Corbel", "Geneva", "Bitstream Vera Sans", "Franklin Gothic Medium", "Arial Black",
     "Arial Narrow", "Helvetica Light", "San Francisco", "SF Pro Display", "Wingdings", "Symbol"),
    ("DejaVu Serif", "Georgia", "Palatino", "Palatino Linotype", "Garamond", "Book Antiqua",
     "Century", "Century Schoolbook", "Bookman", "Bookman Old Style", "Didot", "Constantia",
     "Baskerville", "Bodoni MT"),
    # What TeX sets its texts in, which matplotlib has without a bold face.
    ("STIXGeneral", "Computer Modern", "Computer Modern Roman", "CMU Serif", "Latin Modern Roman",
     "STIX Two Text"),
    ("DejaVu Sans Mono", "Consolas", "Menlo", "Monaco", "Lucida Console", "Andale Mono",
     "Fira Code", "Fira Mono", "JetBrains Mono", "Source Code Pro", "Bitstream Vera Sans Mono"),
    # matplotlib's xkcd() names these, and warns of each that is missing.
    ("Humor Sans", "xkcd", "xkcd Script"),
    ("Comic Neue", "Comic Sans MS", "Comic Sans", "Chalkboard"),
    ("Symbola", "Noto Color Emoji", "Noto Emoji", "Segoe UI Emoji", "Apple Color Emoji"),
    ("Noto Sans Devanagari", "Mangal", "Nirmala UI", "Kokila", "Lohit Devanagari"),
    ("Noto Naskh Arabic", "Amiri", "Traditional Arabic", "Simplified Arabic", "Scheherazade",
     "Scheherazade New", "Geeza Pro", "Sakkal Majalla"),
    ("Noto Sans Hebrew", "David", "David CLM", "Miriam"),
    ("Noto Sans Tamil", "Latha"),
    ("Noto Sans Thai", "TH Sarabun New", "TH SarabunPSK", "Leelawadee", "Leelawadee UI"),
    ("Noto Sans CJK SC", "SimHei", "SimSun", "Microsoft YaHei", "KaiTi", "FangSong", "PingFang SC",
     "Heiti SC", "STHeiti", "STSong", "Songti SC", "Arial Unicode MS", "Source Han Sans SC",
     "Source Han Sans CN", "Noto Sans SC", "Noto Sans CJK", "WenQuanYi Zen Hei",
     "WenQuanYi Micro Hei", "DengXian", "SimKai", "LiSu", "YouYuan", "NSimSun", "STKaiti",
     "STFangsong", "Hiragino Sans GB", "Droid Sans Fallback", "AR PL UMing CN", "AR PL UKai CN",
     "Noto Serif CJK SC", "Noto Serif SC", "Source Han Serif SC"),
    ("Noto Sans CJK TC", "Microsoft JhengHei", "PMingLiU", "MingLiU", "PingFang TC", "Noto Sans TC",
     "Heiti TC", "DFKai-SB", "LiHei Pro", "Noto Serif CJK TC"),
    ("Noto Sans CJK JP", "MS Gothic", "MS Mincho", "Yu Gothic", "Meiryo", "Hiragino Sans",
     "Hiragino Maru Gothic Pro", "IPAexGothic", "IPAGothic", "TakaoGothic", "TakaoPGothic",
     "Noto Sans JP", "MS PGothic", "MS PMincho", "Hiragino Kaku Gothic Pro", "Hiragino Kaku Gothic ProN",
     "IPAPGothic", "IPAMincho", "VL Gothic", "Noto Serif CJK JP"),
    ("Noto Sans CJK KR", "Malgun Gothic", "AppleGothic", "NanumGothic", "NanumBarunGothic", "Batang",
     "Gulim", "Noto Sans KR", "Dotum", "DotumChe", "Apple SD Gothic Neo", "NanumMyeongjo",
     "Noto Serif CJK KR"),
]

# What a text falls back on, in this order, for characters that its own font lacks. The last one is
# coarse, and has the emoji that are younger than Symbola.
FALLBACKS = ["DejaVu Sans", "Noto Sans CJK SC", "Noto Sans Arabic", "Noto Sans Devanagari",
             "Noto Sans Bengali", "Noto Sans Gurmukhi", "Noto Sans Gujarati", "Noto Sans Tamil",
             "Noto Sans Telugu", "Noto Sans Kannada", "Noto Sans Malayalam", "Noto Sans Sinhala",
             "Noto Sans Thai", "Noto Sans Lao", "Noto Sans Khmer", "Noto Sans Myanmar",
             "Noto Sans Hebrew", "Noto Sans Ethiopic", "Noto Sans Oriya", "Noto Serif Tibetan",
             "Noto Sans Mongolian", "Noto Sans Thaana", "Noto Sans Cherokee", "Noto Sans Math",
             "Symbola", "Noto Sans Symbols2", "Unifont Upper"]

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


# And what is said about fonts is said once, not for every text of a figure; of weights that a
# family lacks nothing, since the nearest is as good as it gets.
_TOLD = set()


def _first(record):
    if record.levelno < logging.WARNING:
        return True
    text = record.getMessage()
    if "Failed to find font weight" in text or text in _TOLD:
        return False
    if len(_TOLD) < 1000:
        _TOLD.add(text)
    return True


_log.addFilter(_first)
'''

# Added to matplotlib/_mathtext.py, which draws all of a text that has a formula, glyph by glyph from
# one font, and puts a sign of its own where that lacks one.
MATHTEXT = '''

# Added by the recipe of this image: texts with formulas fall back on fonts of other scripts.
from matplotlib import font_manager


def _fallback(sym):
    if len(sym) == 1:
        for (path, index), _ in font_manager._FALLBACKS:
            font = get_font(font_manager.FontPath(path, index))
            if font.get_char_index(ord(sym)):
                return font
    return None


def _with_fallbacks(get):
    def _get_glyph(self, fontname, font_class, sym):
        found = get(self, fontname, font_class, sym)
        if found[1] == 0xA4 and (font := _fallback(sym)):
            return font, ord(sym), False
        return found
    return _get_glyph


UnicodeFonts._get_glyph = _with_fallbacks(UnicodeFonts._get_glyph)
_log.addFilter(lambda record: not (str(record.msg).startswith("Font %r does not have a glyph")
                                   and _fallback(record.args[1])))
'''


def sorted_fonts(manager):
    """Orders the fonts, so that the list does not depend on the disk, and leaves out our links."""
    manager.ttflist = [f for f in manager.ttflist
                       if not f.fname.startswith("/usr/local/share/fonts/") and not pathlib.Path(f.fname).is_symlink()]
    for fonts in (manager.ttflist, manager.afmlist):
        fonts.sort(key=lambda font: (font.fname, getattr(font, "index", 0), font.name, str(font.weight)))


def add_aliases(manager):
    names = {font.name for font in manager.ttflist}
    for ours, *theirs in ALIASES:
        faces = [font for font in manager.ttflist if font.name == ours]
        manager.ttflist += [dataclasses.replace(face, name=name)
                            for name in theirs if name not in names for face in faces]


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
    if sys.argv[1:] == ["mathtext"]:
        print(MATHTEXT)
        return
    manager = font_manager.fontManager
    sorted_fonts(manager)
    add_aliases(manager)
    [cache] = pathlib.Path(matplotlib.get_cachedir()).glob("fontlist-*.json")
    font_manager.json_dump(manager, cache)
    print(CODE.format(fallbacks=fallback_faces(manager)))


main()
