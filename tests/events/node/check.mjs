// Holds messages against Segment's own validators. Usage: node check.mjs FOLDER (see ../export.py).
import { createReadStream, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { assertUserIdentity, validateEvent } from "@segment/analytics-core";
import looselyValidate from "@segment/loosely-validate-event";

const folder = process.argv[2];
const due = JSON.parse(readFileSync(join(folder, "due.json"), "utf8"));
const counts = new Map([...due.events, "identify"].map((name) => [name, new Map()]));
const failures = [];
let passed = 0;

function check(message) {
  const when = new Date(message.timestamp);
  if (Number.isNaN(when.getTime())) throw new Error("the timestamp is no date");
  // loosely-validate-event was made for messages in memory, where a timestamp is a Date.
  looselyValidate({ ...message, timestamp: when });
  validateEvent(message);
  assertUserIdentity(message);
  if (!(message.messageId.length <= 100)) throw new Error("the messageId is too long");
}

for (const file of readdirSync(folder).filter((name) => name.endsWith(".ndjson"))) {
  for await (const line of createInterface({ input: createReadStream(join(folder, file)) })) {
    const { variant, message } = JSON.parse(line);
    try {
      check(message);
      passed += 1;
      const of = counts.get(message.event ?? message.type);
      if (of) of.set(variant, (of.get(variant) ?? 0) + 1);
    } catch (error) {
      failures.push(`${message.event ?? message.type} (${variant}): ${error.message}`);
    }
  }
}

const width = Math.max(...due.events.map((name) => name.length));
for (const [name, of] of counts) {
  const told = [...of].map(([variant, count]) => `${variant} ${count}`).join(", ");
  console.log(`${name.padEnd(width)}  ${told}`);
  for (const variant of name === "identify" ? ["as it came"] : due.variants) {
    if (!of.get(variant)) failures.push(`${name}: none with values of the kind '${variant}'`);
  }
}
for (const failure of failures.slice(0, 50)) console.error(failure);
console.log(`${passed} passed, ${failures.length} failed`);
process.exitCode = failures.length ? 1 : 0;
