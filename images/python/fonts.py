"""Writes matplotlib's list of fonts, in an order that does not depend on the disk."""

import pathlib

import matplotlib
from matplotlib import font_manager

manager = font_manager.fontManager
for fonts in (manager.ttflist, manager.afmlist):
    fonts.sort(key=lambda font: font.fname)
[cache] = pathlib.Path(matplotlib.get_cachedir()).glob("fontlist-*.json")
font_manager.json_dump(manager, cache)
