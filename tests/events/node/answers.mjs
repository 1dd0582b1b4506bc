// Holds the sandbox's Public API against the types of Segment's own package, with the TypeScript compiler.
// Usage: node answers.mjs FOLDER (see ../export.py).
import { readFileSync, writeFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const sdk = createRequire(import.meta.url)("@segment/public-api-sdk-typescript");
const answers = JSON.parse(readFileSync(join(process.argv[2], "answers.json"), "utf8"));

// A literal of the type. The package's enums are no strings to the compiler: they are written by their names.
function literal(value, type) {
  const list = /^Array<(.*)>$/.exec(type ?? "");
  if (list && Array.isArray(value)) return `[${value.map((each) => literal(each, list[1])).join(", ")}]`;
  const map = sdk[type]?.attributeTypeMap;
  if (map && value !== null && typeof value === "object") {
    const of = new Map(map.map((attribute) => [attribute.baseName, attribute.type]));
    const parts = Object.entries(value).map(([key, part]) => `${JSON.stringify(key)}: ${literal(part, of.get(key))}`);
    return `{ ${parts.join(", ")} }`;
  }
  if (type?.endsWith("Enum") && typeof value === "string") return `sdk.${type}[${JSON.stringify(value)}]`;
  return JSON.stringify(value);
}

const lines = ['import * as sdk from "@segment/public-api-sdk-typescript";'];
for (const { path, type, body } of answers) {
  if (!sdk[type]) throw new Error(`the package has no type ${type}`);
  lines.push(`// ${path}`, `export const answer${lines.length}: sdk.${type} = ${literal(body, type)};`);
}
// Beside the installed package, where the compiler finds it.
const file = join(dirname(fileURLToPath(import.meta.url)), "answers.generated.ts");
writeFileSync(file, lines.join("\n"));
try {
  const program = ts.createProgram([file], { noEmit: true, strict: true, skipLibCheck: true, types: [] });
  const failures = ts.getPreEmitDiagnostics(program);
  for (const failure of failures.slice(0, 50)) {
    const { line } = failure.file?.getLineAndCharacterOfPosition(failure.start) ?? { line: 0 };
    console.error(`${lines[line - 1]}: ${ts.flattenDiagnosticMessageText(failure.messageText, "\n")}`);
  }
  console.log(`${answers.length} answers of the Public API, ${failures.length} wrong`);
  process.exitCode = failures.length || !answers.length ? 1 : 0;
} finally {
  rmSync(file);
}
