# Sourced by setup.sh: what of the full image is not needed.

# Symbols of compiled wheels for debuggers: 100 MB in spaCy alone.
for package in _polars_runtime_32 blis gensim h5py llvmlite lz4 numba pyarrow scipy spacy thinc \
	zstandard; do
	find "$site/$package" -name '*.so*' -exec strip --strip-unneeded {} +
done
find "$site" -type f \( -name '*.pyx' -o -name '*.c' -o -name '*.cpp' -o -name '*.h' -o -name '*.hpp' \
	-o -name '*.a' -o -name '*.js.map' \) -delete
# Interfaces for type checkers; these packages read theirs when they are imported.
find "$site" -name '*.pyi' ! -path "$site/librosa/*" ! -path "$site/skimage/*" -delete
# Names of countries in other languages, and suites.
rm -rf "$site/pycountry/locales" "$site/gensim/test" "$site/jedi/third_party" "$site/Crypto/SelfTest"
# Extensions of notebooks' front ends, and what exists in a smaller form.
rm -rf /usr/local/share/jupyter "$site/plotly/labextension"
find "$site/bokeh/server/static/js" -name '*.js' ! -name '*.min.js' -delete
# Solvers for other machines.
find "$site/pulp/solverdir/cbc" -mindepth 2 -maxdepth 2 ! -path '*/linux/i64' -exec rm -rf {} +
# The program ffmpeg is Debian's, which has ffprobe, too.
rm -rf "$site"/imageio_ffmpeg/binaries/ffmpeg-*
# The folder that data.py has copied.
rm -rf /usr/share/wordnet
dpkg --purge $(dpkg-query --show --showformat '${Package} ' 'binutils*' libbinutils libgprofng0 \
	'libctf*' libsframe1) >&2

# One face of the Chinese, Japanese and Korean font for PDF writers, in a file of its own and without
# bitmaps: some of them take no collection, others warn of tables that they do not know.
python3 - /usr/share/fonts/truetype/wqy/wqy-zenhei <<'END'
import sys
from fontTools.ttLib import TTFont

font = TTFont(sys.argv[1] + ".ttc", fontNumber=0, lazy=True, recalcTimestamp=False)
for table in {"BDF ", "EBDT", "EBLC"} & set(font.keys()):
    del font[table]
font.save(sys.argv[1] + ".ttf")
END
rm /usr/share/fonts/truetype/wqy/wqy-zenhei.ttc

# Programs that look for a browser know it by this name.
ln -s chromium-headless-shell /usr/bin/chromium

# Names by which programs open fonts of other systems.
links=/usr/local/share/fonts/links
mkdir -p "$links"
link() {
	for name in "$2" "$3"; do ln -s "/usr/share/fonts/truetype/$1.ttf" "$links/$name"; done
}
link liberation/LiberationSans-Regular Arial.ttf arial.ttf
link liberation/LiberationSans-Bold Arial_Bold.ttf arialbd.ttf
link liberation/LiberationSans-Italic Arial_Italic.ttf ariali.ttf
link liberation/LiberationSans-BoldItalic Arial_Bold_Italic.ttf arialbi.ttf
link liberation/LiberationSerif-Regular Times_New_Roman.ttf times.ttf
link liberation/LiberationSerif-Bold Times_New_Roman_Bold.ttf timesbd.ttf
link liberation/LiberationSerif-Italic Times_New_Roman_Italic.ttf timesi.ttf
link liberation/LiberationSerif-BoldItalic Times_New_Roman_Bold_Italic.ttf timesbi.ttf
link liberation/LiberationMono-Regular Courier_New.ttf cour.ttf
link liberation/LiberationMono-Bold Courier_New_Bold.ttf courbd.ttf
link crosextra/Carlito-Regular Calibri.ttf calibri.ttf
link crosextra/Carlito-Bold Calibri_Bold.ttf calibrib.ttf
link wqy/wqy-zenhei SimHei.ttf simhei.ttf
cache_fonts
