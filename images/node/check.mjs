// What the Node image promises: every package does one thing. It stays in the image, so that a
// session can run it.
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createRequire } from "node:module";

const require = createRequire("/mnt/data/check.js");
const checks = {
  "@napi-rs/canvas": (m) => m.createCanvas(9, 9).toBuffer("image/png").subarray(1, 4).toString() === "PNG",
  ajv: ({ Ajv }) => new Ajv().validate({ type: "number" }, 1),
  async: async (m) => (await m.map([1, 2], async (x) => x * 2))[1] === 4,
  axios: (m) => m.getUri({ url: "/x", params: { a: 1 } }) === "/x?a=1",
  "bignumber.js": (m) => new m.BigNumber("0.1").plus("0.2").toString() === "0.3",
  chalk: (m) => typeof m.default.red("x") === "string",
  "chart.js": (m) => m.registerables.length > 3,
  cheerio: (m) => m.load("<p>x</p>")("p").text() === "x",
  commander: (m) => new m.Command().option("-x").parse(["-x"], { from: "user" }).opts().x === true,
  "csv-parse": (m) => require("csv-parse/sync").parse("a,b\n1,2\n", { columns: true })[0].b === "2",
  d3: (m) => m.scaleLinear([0, 1], [0, 10])(0.5) === 5,
  "date-fns": (m) => m.format(new Date(2026, 0, 2), "yyyy-MM-dd") === "2026-01-02",
  dayjs: (m) => m("2026-01-31").add(1, "month").format("YYYY-MM-DD") === "2026-02-28",
  "decimal.js": (m) => m.Decimal.sqrt(2).toFixed(5) === "1.41421",
  diff: (m) => m.diffChars("ab", "ac").length === 3,
  docx: async (m) => (await m.Packer.toBuffer(new m.Document({ sections: [{ children: [new m.Paragraph("x")] }] }))).length > 999,
  echarts: (m) => {
    const chart = m.init(null, null, { renderer: "svg", ssr: true, width: 99, height: 99 });
    chart.setOption({ xAxis: { data: ["a"] }, yAxis: {}, series: [{ type: "bar", data: [1] }] });
    return chart.renderToSVGString().startsWith("<svg");
  },
  exceljs: async (m) => {
    const book = new m.Workbook();
    book.addWorksheet("x").addRow([1, "a"]);
    const again = await new m.Workbook().xlsx.load(await book.xlsx.writeBuffer());
    return again.getWorksheet("x").getCell("B1").value === "a";
  },
  express: (m) => typeof m().get === "function",
  "fast-xml-parser": (m) => new m.XMLParser().parse("<a><b>1</b></a>").a.b === 1,
  handlebars: (m) => m.compile("{{x}}!")({ x: 1 }) === "1!",
  "iconv-lite": (m) => m.decode(Buffer.from([0xe4]), "latin1") === "ä",
  immutable: (m) => m.Map({ a: 1 }).set("b", 2).size === 2,
  "js-yaml": (m) => m.load("a: [1]").a[0] === 1,
  jszip: async (m) => (await new m().file("a", "x").generateAsync({ type: "nodebuffer" })).length > 20,
  koffi: (m) => m.load(null).func("int getpid()")() === process.pid,
  linkedom: (m) => m.parseHTML("<p>x</p>").document.querySelector("p").textContent === "x",
  lodash: (m) => m.chunk([1, 2, 3], 2).length === 2,
  luxon: (m) => m.DateTime.fromISO("2026-01-31").plus({ months: 1 }).toISODate() === "2026-02-28",
  marked: (m) => m.marked.parse("# x").includes("<h1>x</h1>"),
  mathjs: (m) => m.evaluate("det([1, 2; 3, 4])") === -2,
  moment: (m) => m("2026-01-02").format("DD.MM.YY") === "02.01.26",
  nanoid: (m) => m.nanoid().length === 21,
  papaparse: (m) => m.parse("a\n1", { header: true }).data[0].a === "1",
  "pdf-lib": async (m) => (await (await m.PDFDocument.create()).save()).length > 100,
  rxjs: async (m) => (await m.lastValueFrom(m.range(1, 3).pipe(m.reduce((a, b) => a + b)))) === 6,
  "simple-statistics": (m) => m.median([3, 1, 2]) === 2,
  turndown: (m) => new m().turndown("<b>x</b>") === "**x**",
  typescript: (m) => m.transpileModule("@d class A {}", { compilerOptions: { target: "es2022" } }).outputText.includes("__esDecorate"),
  uuid: (m) => m.validate(m.v4()),
  vega: async (m) => (await new m.View(m.parse({ width: 9, height: 9 }), { renderer: "none" }).toSVG()).startsWith("<svg"),
  "vega-lite": (m) => m.compile({ data: { values: [] }, mark: "bar", encoding: {} }).spec.marks.length === 1,
  ws: (m) => typeof m.WebSocketServer === "function",
  zod: (m) => m.z.object({ a: m.z.number() }).safeParse({ a: 1 }).success,
};
const installed = Object.keys(require("/usr/local/lib/package.json").dependencies);
assert.deepEqual(Object.keys(checks).sort(), installed.sort(), "each package has a check");
for (const [name, check] of Object.entries(checks)) {
  const imported = await import(name);
  let required = imported;
  try {
    required = require(name);
  } catch (e) {
    // A module that awaits something while it loads can be imported only.
    if (e.code !== "ERR_REQUIRE_ASYNC_MODULE") throw e;
  }
  assert.ok(await check(required), name);
}
for (const program of ["git", "jq", "curl", "zip", "unzip", "npm", "npx"]) {
  execFileSync(program, ["--version"].slice(program === "unzip" ? 1 : 0), { stdio: "ignore" });
}
console.log(`${installed.length} packages work`);
process.exit(0); // some keep a timer
