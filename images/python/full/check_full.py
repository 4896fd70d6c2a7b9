"""Uses what the full image promises, all that check.py does included, which says how to run it."""

import asyncio
import io
import locale
import os
import sys
import warnings

from check import feature, output, people, run

TEXTS = {"Chinese": "销售额按月份统计", "Japanese": "売上のグラフです", "Korean": "매출 그래프", "Hindi": "बिक्री का चित्र",
         "Arabic": "مبيعات الشهر", "Hebrew": "מכירות", "Thai": "ยอดขาย", "Tamil": "விற்பனை", "Bengali": "বিক্রয়",
         "Emoji": "😀 🚀 ✅ 📈 ❤ ⭐ 🥲 🫠", "Cyrillic": "Продажи", "Greek": "Πωλήσεις", "Vietnamese": "Doanh số tháng",
         "Odia": "ବିକ୍ରୟ", "Tibetan": "ཚོང་", "Mongolian": "ᠮᠣᠩᠭᠣᠯ", "Cherokee": "ᏣᎳᎩ", "Maths": "ℝ 𝔸 𝒳 ∑ ∇ ⊗"}


def texts(plt, path, **title):
    fig, axes = plt.subplots(figsize=(6, 7))
    for i, (language, text) in enumerate(TEXTS.items()):
        axes.text(0.05, i / len(TEXTS) + 0.02, f"{language}: {text}", fontsize=15, weight="bold" if i % 2 else "normal")
    axes.set_title("月份 – बिक्री – 📈", **title)
    axes.set_xlabel(r"$\lambda$ 波長 한국 (μm), $\sum_{月} x_月^2$", **title)
    fig.savefig(path)
    plt.close(fig)


@feature
def fonts():
    """No glyph is missing, whatever style is set, and fonts of other systems have a stand-in."""
    import matplotlib
    import matplotlib.pyplot as plt
    import seaborn as sns
    from matplotlib import font_manager

    for path in ("a.png", "a.pdf", "a.svg"):
        texts(plt, path)
    sns.set_theme()
    texts(plt, "b.png")
    plt.style.use("ggplot")
    matplotlib.rcParams["font.sans-serif"] = ["SimHei"]
    matplotlib.rcParams["axes.unicode_minus"] = False
    texts(plt, "c.png")
    matplotlib.rcParams["font.family"] = "Times New Roman"
    texts(plt, "d.png", fontname="Arial")
    with plt.xkcd():
        texts(plt, "e.png", weight="bold")
    for fontset in ("cm", "stix", "custom"):
        matplotlib.rcParams["mathtext.fontset"] = fontset
        texts(plt, "f.png", weight="semibold")
    matplotlib.rcParams.update(matplotlib.rcParamsDefault)
    matplotlib.use("agg")
    for family, file in (("Arial", "LiberationSans-Regular"), ("Times New Roman", "LiberationSerif-Regular"),
                         ("Courier New", "LiberationMono-Regular"), ("Calibri", "Carlito-Regular"),
                         ("Cambria", "Caladea-Regular"), ("cursive", "ComicNeue"), ("Comic Sans MS", "ComicNeue-Regular"), ("xkcd", "Humor-Sans"),
                         ("Roboto", "DejaVuSans"), ("Microsoft YaHei", "NotoSansCJK-Regular")):
        assert file in font_manager.findfont(family, fallback_to_default=False), family
    for asked, given in (("Arial", "Liberation Sans"), ("Times New Roman", "Liberation Serif"), ("Courier New", "Liberation Mono")):
        assert given in output("fc-match", asked)


@feature
def fonts_elsewhere():
    from fpdf import FPDF
    from PIL import ImageFont
    from reportlab.pdfbase import pdfmetrics, ttfonts
    from wordcloud import WordCloud

    for name in ("arial.ttf", "times.ttf", "cour.ttf", "Arial.ttf", "simhei.ttf", "DejaVuSans.ttf"):
        ImageFont.truetype(name, 20).getbbox("text")
        pdfmetrics.registerFont(ttfonts.TTFont(name, name))
    for name in ("msyh.ttc", "simsun.ttc", "wqy-zenhei.ttc", "malgun.ttf", "meiryo.ttc", "C:/Windows/Fonts/msyh.ttc"):
        font = ImageFont.truetype(name, 20)
        assert bytes(font.getmask("文")) != bytes(font.getmask("\uffff")), name
    for name in os.listdir("/usr/local/share/fonts/links"):
        ImageFont.truetype(name, 20).getbbox("text")
    cjk = "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc"
    pdfmetrics.registerFont(ttfonts.TTFont("cjk", cjk))
    pdf = FPDF()
    pdf.add_page()
    pdf.add_font("cjk", fname=cjk)
    pdf.set_font("cjk", size=14)
    pdf.cell(text="中文 한국어 日本語")
    pdf.output("a.pdf")
    assert "中文" in output("pdftotext", "a.pdf", "-")
    WordCloud(font_path="simhei.ttf").generate("销售 销售 数据 word").to_file("a.png")


@feature
def machine_full():
    for name, text in (("de_DE", "1.234,50"), ("fr_FR", "1\u202f234,50"), ("en_GB", "1,234.50"), ("pt_BR", "1.234,50")):
        locale.setlocale(locale.LC_ALL, name + ".UTF-8")
        assert locale.format_string("%.2f", 1234.5, grouping=True) == text, name
    locale.setlocale(locale.LC_ALL, "C.UTF-8")


@feature
def tables_full():
    import pandas as pd
    import sqlalchemy

    df = people()
    assert "<table" in df.style.background_gradient().highlight_max(axis=0).format(precision=1).to_html()
    assert "tabular" in df.to_latex() and "tabular" in df.style.to_latex()
    engine = sqlalchemy.create_engine("sqlite://")
    df.to_sql("people", engine, index=False)
    assert pd.read_sql("select count(*) from people", engine).iloc[0, 0] == 3
    for flavor in ("lxml", "html5lib"):
        assert len(pd.read_html(io.StringIO(df.to_html()), flavor=flavor)[0]) == 3
    df.to_excel("a.ods", index=False)
    df.to_hdf("a.h5", key="t")
    for again in (pd.read_excel("a.ods"), pd.read_hdf("a.h5", "t"), pd.read_excel("a.ods", engine="calamine")):
        pd.testing.assert_frame_equal(again, df, check_dtype=False)
    write_xls("a.xls")
    assert pd.read_excel("a.xls").iloc[0, 0] == "Ada"
    for module in ("pyxlsb", "numexpr", "bottleneck", "numba"):
        __import__(module)
    assert df.query("born > 1900").eval("born + 1").tolist() == [1907, 1979]
    assert df.born.rolling(2).mean(engine="numba").tolist()[1:] == [1860.5, 1942.0]
    pd.options.plotting.backend = "plotly"
    assert type(df.plot(x="name", y="born")).__name__ == "Figure"
    pd.options.plotting.backend = "matplotlib"


def write_xls(path):
    """A sheet of Excel 4: what writes .xls is no longer kept, what reads it is."""
    def record(kind, body):
        return kind.to_bytes(2, "little") + len(body).to_bytes(2, "little") + body

    def label(row, text):
        return record(0x204, row.to_bytes(2, "little") + bytes(4) + len(text).to_bytes(2, "little") + text)

    cells = label(0, b"name") + label(1, b"Ada")
    with open(path, "wb") as f:
        f.write(record(0x409, bytes.fromhex("000010000000")) + cells + record(0x0A, b""))


@feature
def frames():
    import dask.dataframe
    import duckdb
    import polars as pl
    import xarray

    df = people()
    assert duckdb.sql("select max(born) from df").fetchone() == (1978,)
    assert pl.from_pandas(df).filter(pl.col("born") > 1900).height == 2
    assert pl.read_excel(to_xlsx(df)).height == 3
    assert dask.dataframe.from_pandas(df, npartitions=2).born.sum().compute() == 5699
    array = xarray.DataArray([[1, 2], [3, 4]], dims=("x", "y"))
    array.to_netcdf("a.nc")
    assert xarray.open_dataarray("a.nc").sum() == 10


def to_xlsx(df):
    df.to_excel("polars.xlsx", index=False)
    return "polars.xlsx"


@feature
def extras():
    """What packages do only if they find another one."""
    import geopandas as gpd
    import lxml.html
    import shapely
    from sqlalchemy.util import greenlet_spawn
    from sympy.parsing.latex import parse_latex

    assert float(parse_latex(r"\frac{1}{2} + 1")) == 1.5
    assert lxml.html.fromstring("<p><a class=x>y</a></p>").cssselect("a.x")[0].text == "y"
    areas = gpd.GeoDataFrame({"value": range(6)}, geometry=[shapely.Point(i, 0).buffer(1) for i in range(6)], crs=4326)
    areas.plot("value", scheme="quantiles", k=3, legend=True).figure.savefig("a.png")
    areas.explore("value").save("a.html")
    assert asyncio.run(greenlet_spawn(len, "ab")) == 2
    with open("test_wait.py", "w") as f:
        f.write("import asyncio, pytest\n\n@pytest.mark.asyncio\nasync def test_wait():\n    await asyncio.sleep(0)\n")
    assert "1 passed" in output(sys.executable, "-m", "pytest", "-q", "test_wait.py")


@feature
def charts():
    import altair as alt
    import bokeh.embed
    import bokeh.plotting
    import bokeh.resources
    import mplfinance as mpf
    import numpy as np
    import pandas as pd
    import plotnine as p9

    df = people()
    alt.Chart(df).mark_bar().encode(x="name", y="born").save("a.png")
    alt.Chart(df).mark_bar().encode(x="name", y="born").save("a.svg")
    figure = bokeh.plotting.figure()
    figure.line([1, 2], [1, 2])
    assert "<html" in bokeh.embed.file_html(figure, bokeh.resources.INLINE)
    (p9.ggplot(df, p9.aes("name", "born")) + p9.geom_col()).save("b.png", verbose=False)
    days = pd.date_range("2026-01-01", periods=20)
    price = pd.DataFrame({c: np.arange(20) + i for i, c in enumerate(("Open", "Low", "High", "Close"))}, index=days)
    price["High"] = price.max(axis=1) + 1
    price["Low"] = price.min(axis=1) - 1
    mpf.plot(price, type="candle", savefig="c.png")
    assert min(os.path.getsize(f) for f in ("a.png", "a.svg", "b.png", "c.png")) > 2000


@feature
def plotly_export():
    """Through a browser that is part of the image, without a network."""
    import plotly.express as px

    figure = px.bar(people(), x="name", y="born", title="中文 हिन्दी 😀")
    figure.write_image("a.png")
    figure.write_image("a.pdf")
    assert figure.to_image("svg")[:4] == b"<svg"
    assert "plotly" in figure.to_html(include_plotlyjs=True)


@feature
def learning():
    import imblearn.over_sampling
    import lightgbm
    import numpy as np
    import shap
    import xgboost

    rng = np.random.default_rng(1)
    x = rng.normal(size=(300, 4))
    y = (x[:, 0] > 0).astype(int)
    model = xgboost.XGBClassifier(n_estimators=10).fit(x, y)
    assert model.score(x, y) > 0.9
    assert lightgbm.LGBMClassifier(n_estimators=10, verbose=-1).fit(x, y).booster_.num_trees() == 10
    assert shap.TreeExplainer(model)(x[:10]).values.shape == (10, 4)
    x2, y2 = imblearn.over_sampling.SMOTE(random_state=1).fit_resample(np.vstack([x, x[y == 1]]), np.r_[y, y[y == 1]])
    assert y2.sum() * 2 == len(y2) and len(x2) == len(y2)


@feature
def computing():
    import numba
    import pint
    import pulp

    assert numba.njit(lambda n: sum([i for i in range(n)]))(10) == 45
    assert round(pint.UnitRegistry()("3 mile").to("km").magnitude, 2) == 4.83
    problem = pulp.LpProblem("p", pulp.LpMaximize)
    x = pulp.LpVariable("x", 0, 4)
    problem += 2 * x
    problem += x <= 3
    problem.solve(pulp.PULP_CBC_CMD(msg=False))
    assert x.value() == 3


@feature
def language():
    import gensim
    import nltk
    import spacy
    import textblob
    from nltk.corpus import stopwords, wordnet
    from nltk.sentiment import SentimentIntensityAnalyzer
    from nltk.stem import WordNetLemmatizer

    words = nltk.word_tokenize("Dr. Smith is running quickly. He likes New York!")
    assert words[:3] == ["Dr.", "Smith", "is"]
    assert nltk.pos_tag(words)[2:5] == [("is", "VBZ"), ("running", "VBG"), ("quickly", "RB")]
    assert len(nltk.sent_tokenize("One. Two.")) == 2
    assert "the" in stopwords.words("english") and "und" in stopwords.words("german")
    assert WordNetLemmatizer().lemmatize("geese") == "goose"
    assert wordnet.synset("dog.n.01").lexname() == "noun.animal"
    assert SentimentIntensityAnalyzer().polarity_scores("I love it!")["compound"] > 0.5
    assert textblob.TextBlob("It is a great day.").sentiment.polarity > 0.5
    doc = spacy.load("en_core_web_sm")("Apple bought a company in London for $1 billion.")
    assert {e.label_ for e in doc.ents} >= {"ORG", "GPE"} and doc[1].lemma_ == "buy" and doc[1].pos_ == "VERB"
    vectors = gensim.models.Word2Vec([["a", "b", "c"]] * 20, vector_size=8, min_count=1, workers=1)
    assert len(vectors.wv["a"]) == 8
    import langdetect
    langdetect.DetectorFactory.seed = 1
    assert langdetect.detect("Dies ist ein deutscher Satz.") == "de"


@feature
def papers():
    """PDF in all directions, and office documents."""
    import docxtpl
    import pymupdf
    import mammoth
    import pdf2image
    import pdfplumber
    import pypdf
    import pypdfium2
    import pytesseract
    import weasyprint
    import docx
    from PyPDF2 import PdfReader

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        weasyprint.HTML(string="<h1>Invoice 42</h1><table><tr><td>Total</td><td>99</td></tr></table>").write_pdf("a.pdf")
    assert "Invoice 42" in pypdf.PdfReader("a.pdf").pages[0].extract_text()
    assert len(PdfReader("a.pdf").pages) == 1
    with pdfplumber.open("a.pdf") as pdf:
        assert "Total" in pdf.pages[0].extract_text()
    assert "Invoice 42" in pymupdf.open("a.pdf")[0].get_text()
    assert len(pypdfium2.PdfDocument("a.pdf")) == 1
    [page] = pdf2image.convert_from_path("a.pdf", dpi=150)
    assert "Invoice" in pytesseract.image_to_string(page)
    document = docx.Document()
    document.add_paragraph("Dear {{ name }}")
    document.save("t.docx")
    template = docxtpl.DocxTemplate("t.docx")
    template.render({"name": "Ada"})
    template.save("b.docx")
    with open("b.docx", "rb") as f:
        assert "Dear Ada" in mammoth.convert_to_html(f).value
    import docx2txt
    assert "Dear Ada" in docx2txt.process("b.docx")


@feature
def images_and_sound():
    import cairosvg
    import cv2
    import imageio.v3 as iio
    import librosa
    import numpy as np
    import pydub
    import qrcode
    import skimage.filters
    import soundfile

    frame = np.zeros((64, 64, 3), np.uint8)
    cv2.circle(frame, (32, 32), 10, (255, 255, 255), -1)
    assert not cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml").empty()
    assert cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY).max() == 255
    assert skimage.filters.sobel(frame[..., 0]).max() > 0
    iio.imwrite("a.mp4", np.stack([frame] * 10), fps=10)
    iio.imwrite("a.gif", np.stack([frame] * 3), duration=100)
    assert iio.imread("a.mp4").shape[1:] == (64, 64, 3)
    capture = cv2.VideoCapture("a.mp4")
    assert capture.read()[0]
    soundfile.write("a.wav", np.sin(np.arange(22050) / 10).astype("float32"), 22050)
    pydub.AudioSegment.from_wav("a.wav").export("a.mp3", format="mp3")
    assert round(pydub.AudioSegment.from_mp3("a.mp3").duration_seconds) == 1
    sound, rate = librosa.load("a.wav", sr=None)
    assert rate == 22050 and len(sound) == 22050
    qrcode.make("text").save("a.png")
    assert cv2.QRCodeDetector().detectAndDecode(cv2.imread("a.png"))[0] == "text"
    assert cairosvg.svg2png(b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')[1:4] == b"PNG"


@feature
def video():
    import moviepy
    import numpy as np

    clip = moviepy.VideoClip(lambda t: np.full((32, 32, 3), int(t * 100) % 255, np.uint8), duration=0.5)
    clip.write_videofile("a.mp4", fps=10, logger=None)
    assert "h264" in output("ffprobe", "-v", "error", "-show_entries", "stream=codec_name", "a.mp4")


@feature
def maps():
    import folium
    import geopandas as gpd
    import geopy.distance
    from shapely.geometry import Point

    cities = gpd.GeoDataFrame({"name": ["Paris", "Rome"]}, geometry=[Point(2.35, 48.86), Point(12.5, 41.9)], crs=4326)
    cities.to_file("a.gpkg")
    cities.to_file("a.geojson")
    cities.to_file("a.shp")
    assert len(gpd.read_file("a.gpkg").to_crs(3857)) == 2
    cities.plot()
    assert 1100 < geopy.distance.geodesic((48.86, 2.35), (41.9, 12.5)).km < 1110
    map = folium.Map([48, 10], zoom_start=4)
    folium.Marker([48.86, 2.35]).add_to(map)
    map.save("a.html")


@feature
def web():
    import asyncio

    import aiohttp.web
    import feedparser
    import httpx
    import jinja2
    import markdown
    import xmltodict
    import yaml

    assert jinja2.Template("{{ a + 1 }}").render(a=1) == "2"
    assert yaml.safe_load("a: [1, 2]") == {"a": [1, 2]}
    assert markdown.markdown("# a\n\n|x|\n|-|\n|1|", extensions=["tables"]).count("<td>") == 1
    assert xmltodict.parse("<a><b>1</b></a>") == {"a": {"b": "1"}}
    assert feedparser.parse("<rss><channel><title>t</title></channel></rss>").feed.title == "t"

    async def talk():
        async def hello(request):
            return aiohttp.web.json_response({"ok": True})

        app = aiohttp.web.Application()
        app.router.add_get("/", hello)
        runner = aiohttp.web.AppRunner(app)
        await runner.setup()
        site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        async with httpx.AsyncClient() as client:
            answer = (await client.get(f"http://127.0.0.1:{port}/")).json()
        await runner.cleanup()
        return answer

    assert asyncio.run(talk()) == {"ok": True}
    import fastapi
    import flask

    api = fastapi.FastAPI()
    api.get("/")(lambda n: {"n": n})
    assert "/" in api.openapi()["paths"]

    site = flask.Flask("x")
    site.add_url_rule("/", view_func=lambda: "hello")
    assert site.test_client().get("/").text == "hello"


@feature
def programs():
    import dateparser
    import faker
    import holidays
    import pydantic
    import rich.console
    import tqdm.auto
    from cryptography.fernet import Fernet

    assert list(tqdm.auto.tqdm(range(3), file=io.StringIO())) == [0, 1, 2]
    assert faker.Faker("de_DE").name() and faker.Faker("ja_JP").name()
    assert dateparser.parse("3 days ago") and dateparser.parse("12 août 2024").month == 8
    assert holidays.country_holidays("US", years=2026)
    assert pydantic.TypeAdapter(list[int]).validate_python(["1"]) == [1]
    key = Fernet(Fernet.generate_key())
    assert key.decrypt(key.encrypt(b"x")) == b"x"
    rich.console.Console(file=io.StringIO()).print("[red]x")
    with open("test_a.py", "w") as f:
        f.write("import hypothesis, hypothesis.strategies as st\n@hypothesis.given(st.integers())\ndef test_a(i): assert i == i\n")
    assert "1 passed" in output(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_a.py")


@feature
def small_packages():
    """What code imports for one call, and what neither a browser nor a notebook brings here."""
    import arrow
    import colorama
    import html2text
    import inflect
    import isodate
    import jsonpickle
    import lz4.frame
    import magic
    import nest_asyncio
    import num2words
    import numpy_financial
    import pycountry
    import qrcode
    import ruamel.yaml
    import shapefile
    import sqlparse
    import svgwrite
    import thefuzz.fuzz
    import toml
    import tomlkit
    import ujson
    import xlwt
    import xxhash
    import zstandard
    from pyzbar import pyzbar

    text = b"text " * 1000
    for there, back in ((zstandard.compress, zstandard.decompress), (lz4.frame.compress, lz4.frame.decompress)):
        assert len(there(text)) < 100 and back(there(text)) == text
    assert xxhash.xxh64(b"a").hexdigest() == "d24ec4f1a98c6e5b"
    assert toml.loads("a = [1]") == dict(tomlkit.parse("a = [1]")) == ujson.loads('{"a": [1]}')
    assert ruamel.yaml.YAML(typ="safe").load("a: [1]") == jsonpickle.decode('{"a": [1]}')
    assert pycountry.countries.get(alpha_2="JP").name == "Japan"
    assert inflect.engine().plural("mouse") == "mice" and num2words.num2words(42, lang="fr") == "quarante-deux"
    assert thefuzz.fuzz.token_sort_ratio("new york", "york new") == 100
    assert arrow.get("2026-01-31").shift(months=1).format("YYYY-MM-DD") == "2026-02-28"
    assert isodate.parse_duration("PT1H").total_seconds() == 3600 and colorama.Fore.RED
    assert round(numpy_financial.pmt(0.05 / 12, 360, 1000), 2) == -5.37
    assert html2text.html2text("<b>x</b>").strip() == "**x**" and "SELECT" in sqlparse.format("select 1", keyword_case="upper")
    assert magic.from_buffer(b"%PDF-1.7", mime=True) == "application/pdf"
    qrcode.make("hello").save("a.png")
    from PIL import Image
    assert pyzbar.decode(Image.open("a.png"))[0].data == b"hello"
    book = xlwt.Workbook()
    book.add_sheet("a").write(0, 0, "x")
    book.save("a.xls")
    svgwrite.Drawing("a.svg").save()
    with shapefile.Writer("a") as shapes:
        shapes.field("name", "C")
        shapes.point(1, 2)
        shapes.record("x")
    import asyncio

    nest_asyncio.apply()

    async def inner():
        return 42

    async def outer():
        return asyncio.get_event_loop().run_until_complete(inner())

    assert asyncio.run(outer()) == 42


@feature
def small_charts():
    import matplotlib.pyplot as plt
    import matplotlib_venn
    import squarify
    from adjustText import adjust_text

    squarify.plot([3, 2, 1], label=["a", "b", "c"])
    matplotlib_venn.venn2(subsets=(3, 2, 1))
    matplotlib_venn.venn3([{1, 2}, {2, 3}, {3, 4}])
    plt.figure()
    plt.plot([0, 1], [0, 1])
    adjust_text([plt.text(0.5, 0.5, "a"), plt.text(0.5, 0.5, "b")])
    plt.savefig("a.png")
    plt.close("all")


@feature
def tools():
    with open("a.md", "w") as f:
        f.write("# Title\n\nSome *text*.\n")
    output("pandoc", "a.md", "-o", "a.docx")
    output("pandoc", "a.md", "-o", "a.pdf", "--pdf-engine=weasyprint")
    assert "Title" in output("pdftotext", "a.pdf", "-")
    output("gs", "-q", "-dNOPAUSE", "-dBATCH", "-sDEVICE=png16m", "-sOutputFile=a.png", "a.pdf")
    assert "<svg" in output("dot", "-Tsvg", stdin="digraph { a -> b }")
    assert output("jq", "-r", ".a[1]", stdin='{"a": [1, 2]}') == "2\n"
    assert "video" in output("ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc=d=0.2:s=64x64", "-y", "a.webm") + "video"
    output("git", "init", "-q", "r")
    output("git", "-C", "r", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x")
    output("zip", "-q", "a.zip", "a.md")
    output("7z", "a", "a.7z", "a.md")
    assert output("sqlite3", ":memory:", "select 6*7") == "42\n"
    assert output("bc", stdin="6*7\n") == "42\n"
    assert output("rg", "-c", "text", "a.md") == "1\n"
    assert "curl" in output("curl", "--version")
    output("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--screenshot=b.png", "file://" + os.path.abspath("a.md"))
    assert os.path.getsize("b.png") > 1000


if __name__ == "__main__":
    run(sys.argv[1:])
