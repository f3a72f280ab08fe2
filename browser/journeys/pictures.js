// The pictures of the README, each a page with something to show; ML_WRITE_IMAGES=1 puts them into docs/images.

import assert from "node:assert/strict";
import * as fs from "node:fs";
import * as path from "node:path";
import { root, until } from "../harness.js";
import { fill } from "../sample.js";

export const title = "the pictures of the README";

export default async function (story) {
  const { world } = story;
  const ids = await story.step("a company at work", () => fill(world));
  const pictures = {
    home: ["ana", "/", "table#experiments tbody tr:nth-child(10)"],
    experiment: ["ana", `/experiments/${ids.running}`, ".log .line:nth-child(20)"],
    members: ["ana", `/workspaces/${ids.workspace}/members`, "text=Vision Team"],
    access: ["admin", `/access?who=ana&permission=experiments:update&on=experiment:${ids.running}`, ".chain li:nth-child(2)"],
  };
  for (const [name, [as, where, shows]] of Object.entries(pictures)) {
    await story.step(name, async () => {
      // From smaller print, where more than a page's beginning is to be seen.
      const more = name === "experiment" ? { viewport: { width: 1600, height: 1000 }, deviceScaleFactor: 0.8 } : { viewport: { width: 1280, height: 800 } };
      const page = await story.open({ as, colorScheme: "light", ...more });
      await page.goto(where);
      await until(`${where} shows ${shows}`, () => page.locator(shows).count());
      await story.shot(page, name);
      const from = path.join(story.pictures, `${name}.png`);
      assert(fs.statSync(from).size < 150_000, `${from} has ${fs.statSync(from).size} bytes`);
      if (process.env.ML_WRITE_IMAGES === "1") {
        fs.mkdirSync(path.join(root, "docs/images"), { recursive: true });
        fs.copyFileSync(from, path.join(root, `docs/images/${name}.png`));
      }
    });
  }
}
