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

# Names by which programs open fonts of other systems, and the collection by its own.
ln -s wqy-zenhei.ttf /usr/share/fonts/truetype/wqy/wqy-zenhei.ttc
links=/usr/local/share/fonts/links
mkdir -p "$links"
link() {
	local file=/usr/share/fonts/$1
	shift
	for name; do ln -s "$file" "$links/$name"; done
}
link truetype/liberation/LiberationSans-Regular.ttf Arial.ttf arial.ttf Helvetica.ttf Helvetica.ttc helvetica.ttf
link truetype/liberation/LiberationSans-Bold.ttf Arial_Bold.ttf arialbd.ttf Helvetica-Bold.ttf
link truetype/liberation/LiberationSans-Italic.ttf Arial_Italic.ttf ariali.ttf
link truetype/liberation/LiberationSans-BoldItalic.ttf Arial_Bold_Italic.ttf arialbi.ttf
link truetype/liberation/LiberationSerif-Regular.ttf Times_New_Roman.ttf times.ttf
link truetype/liberation/LiberationSerif-Bold.ttf Times_New_Roman_Bold.ttf timesbd.ttf
link truetype/liberation/LiberationSerif-Italic.ttf Times_New_Roman_Italic.ttf timesi.ttf
link truetype/liberation/LiberationSerif-BoldItalic.ttf Times_New_Roman_Bold_Italic.ttf timesbi.ttf
link truetype/liberation/LiberationMono-Regular.ttf Courier_New.ttf cour.ttf
link truetype/liberation/LiberationMono-Bold.ttf Courier_New_Bold.ttf courbd.ttf
link truetype/crosextra/Carlito-Regular.ttf Calibri.ttf calibri.ttf
link truetype/crosextra/Carlito-Bold.ttf Calibri_Bold.ttf calibrib.ttf
link truetype/dejavu/DejaVuSans.ttf Verdana.ttf verdana.ttf Tahoma.ttf tahoma.ttf segoeui.ttf Roboto-Regular.ttf
link truetype/dejavu/DejaVuSans-Bold.ttf verdanab.ttf tahomabd.ttf segoeuib.ttf Impact.ttf impact.ttf Roboto-Bold.ttf
link truetype/dejavu/DejaVuSerif.ttf Georgia.ttf georgia.ttf
link truetype/dejavu/DejaVuSansMono.ttf consola.ttf Menlo.ttc
link opentype/comic-neue/ComicNeue-Regular.otf comic.ttf
link truetype/ancient-scripts/Symbola_hint.ttf seguiemj.ttf seguisym.ttf
link truetype/wqy/wqy-zenhei.ttf SimHei.ttf simhei.ttf simsun.ttc simkai.ttf simfang.ttf msyh.ttf msyh.ttc \
	msjh.ttc arialuni.ttf malgun.ttf gulim.ttc NanumGothic.ttf wqy-microhei.ttc DroidSansFallback.ttf PingFang.ttc
link opentype/noto/NotoSansCJK-Bold.ttc msyhbd.ttc malgunbd.ttf
link opentype/noto/NotoSansCJK-Regular.ttc msgothic.ttc meiryo.ttc YuGothM.ttc ipaexg.ttf
cache_fonts

# reportlab looks for them in folders of its own.
cat >"$site/reportlab/local_rl_settings.py" <<'END'
from reportlab.rl_settings import TTFSearchPath

TTFSearchPath = ("/usr/local/share/fonts/links", *TTFSearchPath)
END
