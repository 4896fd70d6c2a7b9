"""Uses what the image promises; the build fails if something does not work.

The programs stay in the image, so that a session can run them as well:

    !python3 /usr/share/sandpool/check.py
"""

import contextlib
import faulthandler
import importlib
import io
import locale
import logging
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
import warnings

PROMISED = """
IPython matplotlib_inline numpy pandas scipy scipy.stats scipy.optimize scipy.signal
sklearn sklearn.linear_model sklearn.ensemble statsmodels.api matplotlib.pyplot seaborn
sympy networkx pyarrow pyarrow.parquet openpyxl xlsxwriter docx pptx reportlab.pdfgen.canvas
PIL.Image lxml.etree bs4 requests tabulate setuptools pkg_resources pip
ssl sqlite3 ctypes lzma bz2 zoneinfo multiprocessing
""".split()

# Seconds that one check may take. The slowest takes 20 on an idle machine of two processors.
DEADLINE = 200

features = []


def feature(check):
    """Adds a check. It is called in an empty working directory of its own."""
    features.append(check)
    return check


def run(only=()):
    """Runs the checks, those named, or a part such as 2/5, and ends the program if one fails or warns.

    As many at a time as there are processors and GiB of memory. A check that ran out of time gets
    a second chance when the others are done: a browser that starts beside them may never answer.
    """
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    jobs = max(1, min(os.cpu_count() or 1, memory >> 30))
    checks = features[:]
    if only and "/" in only[0]:
        part, parts = map(int, only[0].split("/"))
        checks = features[part - 1::parts]
    elif only:
        checks = [check for check in features if check.__name__ in only]
    failed, late = rounds(checks, jobs)
    again, never = rounds(late, 1)
    if failed + again + never:
        sys.exit("does not work: " + ", ".join(check.__name__ for check in failed + again + never))


def rounds(checks, jobs):
    """Runs checks, as many as jobs at a time; returns those that failed and those that were late."""
    waiting, running, failed, late = checks[:], {}, [], []
    while waiting or running:
        while waiting and len(running) < jobs:
            check = waiting.pop(0)
            running[begin(check)] = check, time.monotonic()
        pid, status = os.wait()
        if pid not in running:
            continue
        check, since = running.pop(pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # what it has left
        if status != 0:
            (late if time.monotonic() - since > DEADLINE else failed).append(check)
    return failed, late


def begin(check):
    """Starts a check in a process of its own, so that what one sets or leaves does not help another.

    Nothing that starts threads is imported before: a fork of a process that has some can wait for
    ever for a lock that one of them held. After DEADLINE the process says where it hangs, and ends.
    """
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    faulthandler.dump_traceback_later(DEADLINE, exit=True)
    os._exit(0 if works(check) else 1)


def works(check):
    """Runs one check, and says what it took or what is wrong. Warnings are wrong."""
    records = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = records.append
    logging.getLogger().addHandler(handler)
    start = time.perf_counter()
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            os.chdir(folder)
            warnings.simplefilter("error", UserWarning)
            check()
            os.chdir("/")
        if records:
            raise AssertionError([r.getMessage() for r in records])
    except BaseException:
        print(f"{check.__name__}: {traceback.format_exc()}", file=sys.stderr, flush=True)
        return False
    print(f"{check.__name__}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    return True


def output(*command, stdin=None):
    """The output of a program that has to succeed.

    It goes through a file: a browser can leave a process behind that keeps a pipe open for ever.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        done = subprocess.run(command, stdout=out, stderr=err, text=True, input=stdin or "")
        out.seek(0), err.seek(0)
        assert done.returncode == 0, f"{command[0]} ended with {done.returncode}: {err.read()}"
        return out.read()


def people():
    import pandas as pd

    return pd.DataFrame({"name": ["Ada", "Grace", "李"], "born": [1815, 1906, 1978], "score": [1.5, 2.5, None]})


@feature
def imports():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in PROMISED:
            importlib.import_module(name)


@feature
def machine():
    locale.setlocale(locale.LC_ALL, "en_US.UTF-8")
    assert locale.format_string("%.2f", 1234567.891, grouping=True) == "1,234,567.89"
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    assert socket.gethostbyname(socket.gethostname())
    import zoneinfo
    assert zoneinfo.ZoneInfo("Asia/Kolkata")


@feature
def tables():
    import pandas as pd

    df = people()
    df.to_excel("a.xlsx", index=False)
    df.to_excel("b.xlsx", index=False, engine="xlsxwriter")
    df.to_parquet("a.parquet")
    df.to_feather("a.feather")
    df.to_csv("a.csv", index=False)
    df.to_json("a.json")
    for again in (pd.read_excel("a.xlsx"), pd.read_excel("b.xlsx"), pd.read_parquet("a.parquet"),
                  pd.read_feather("a.feather"), pd.read_csv("a.csv"), pd.read_json("a.json")):
        pd.testing.assert_frame_equal(again, df, check_dtype=False)
    with sqlite3.connect(":memory:") as db:
        df.to_sql("people", db, index=False)
        assert pd.read_sql("select sum(born) from people", db).iloc[0, 0] == 5699
    assert "| Ada" in df.to_markdown()
    df.to_xml("a.xml", index=False)
    assert list(pd.read_xml("a.xml").name) == list(df.name)


@feature
def figures():
    import matplotlib.pyplot as plt
    import numpy as np
    import seaborn as sns

    people().plot(kind="bar", x="name", y="born")
    plt.title("$\\int_0^1 x^2 dx$")
    sns.heatmap(np.eye(3), annot=True)
    for form in ("png", "svg", "pdf", "jpg", "webp"):
        plt.savefig("a." + form)
    plt.close("all")


@feature
def documents():
    import docx
    import pptx
    from reportlab.pdfgen import canvas

    doc = docx.Document()
    doc.add_heading("Title")
    doc.save("a.docx")
    assert docx.Document("a.docx").paragraphs[0].text == "Title"
    slides = pptx.Presentation()
    slides.slides.add_slide(slides.slide_layouts[0]).shapes.title.text = "Title"
    slides.save("a.pptx")
    page = canvas.Canvas("a.pdf")
    page.drawString(100, 700, "Title")
    page.save()
    assert open("a.pdf", "rb").read(5) == b"%PDF-"


@feature
def numbers():
    import networkx as nx
    import numpy as np
    import statsmodels.api as sm
    import sympy
    from scipy import optimize
    from sklearn.ensemble import RandomForestClassifier

    rng = np.random.default_rng(1)
    x = rng.normal(size=(200, 3))
    assert RandomForestClassifier(10, random_state=1).fit(x, x[:, 0] > 0).score(x, x[:, 0] > 0) > 0.9
    assert abs(optimize.brentq(np.cos, 0, 3) - np.pi / 2) < 1e-6
    fit = sm.OLS(x @ [1, 2, 3] + 1, sm.add_constant(x)).fit()
    assert np.allclose(fit.params, [1, 1, 2, 3]) and "R-squared" in str(fit.summary())
    t = sympy.symbols("t")
    assert sympy.integrate(t**2, (t, 0, 1)) == sympy.Rational(1, 3)
    assert nx.shortest_path_length(nx.path_graph(5), 0, 4) == 4


@feature
def pictures():
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (200, 100), "white")
    ImageDraw.Draw(image).text((10, 10), "text", fill="black", font=ImageFont.load_default(20))
    for form in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "PDF", "AVIF"):
        image.save(io.BytesIO(), form)


if __name__ == "__main__":
    run(sys.argv[1:])
