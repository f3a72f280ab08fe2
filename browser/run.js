// Runs the journeys, two at once: node run.js [JOURNEY…]

import * as fs from "node:fs";
import * as path from "node:path";
import { World, Story, launch } from "./harness.js";

const dir = path.join(import.meta.dirname, "journeys");
// The longest first.
const order = ["pages", "security", "administrator", "keyboard", "budget", "sign-up", "pictures"];
const all = fs.readdirSync(dir).map((file) => path.basename(file, ".js")).sort((a, b) => order.indexOf(a) - order.indexOf(b));
const asked = process.argv.slice(2);
for (const name of asked) {
  if (!all.includes(name)) {
    console.error(`error: there is no journey ${name}; there are ${all.join(", ")}`);
    process.exit(2);
  }
}
const waiting = asked.length ? [...asked] : [...all];

const browser = await launch();
const worlds = new Set();
for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143], ["SIGHUP", 129]]) {
  process.once(signal, async () => {
    await Promise.all([...worlds].map((world) => world.stop().catch(() => {})));
    process.exit(code);
  });
}
const failed = [];
const took = [];

async function travel(name) {
  const began = Date.now();
  const { title, flags = [], default: tell } = await import(path.join(dir, `${name}.js`));
  let world;
  let story;
  try {
    world = await World.start(...flags);
    worlds.add(world);
    story = new Story(name, browser, world);
    await tell(story);
    if (story.wrong.length) throw new Error(`what went wrong on the way:\n${story.wrong.join("\n")}`);
  } catch (why) {
    failed.push(name);
    console.error(`   ${name}: FAILED${story?.at ? ` at: ${story.at}` : ""}\n${why.stack ?? why}`);
    if (story?.wrong.length) console.error(story.wrong.join("\n"));
    await story?.failed();
    if (world) console.error(world.log());
  } finally {
    await story?.end().catch((why) => console.error(why.message));
    await world?.stop();
    worlds.delete(world);
  }
  took.push(`   ${((Date.now() - began) / 1000).toFixed(0).padStart(4)} s  ${name}: ${title}`);
}

async function lane() {
  for (let name = waiting.shift(); name; name = waiting.shift()) await travel(name);
}
await Promise.all([lane(), lane()]);
await browser.close();
console.log(took.join("\n"));
if (failed.length) {
  console.error(`failed: ${failed.join(", ")}`);
  process.exit(1);
}
