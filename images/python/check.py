"""Imports what the image promises; a wheel that does not load fails the build."""

import importlib

PROMISED = """
IPython matplotlib_inline numpy pandas scipy scipy.stats scipy.optimize scipy.signal
sklearn sklearn.linear_model sklearn.ensemble statsmodels.api matplotlib.pyplot seaborn
sympy networkx pyarrow pyarrow.parquet openpyxl xlsxwriter docx pptx reportlab.pdfgen.canvas
PIL.Image lxml.etree bs4 requests tabulate setuptools pkg_resources pip
ssl sqlite3 ctypes lzma bz2 zoneinfo multiprocessing
""".split()

for name in PROMISED:
    importlib.import_module(name)
