// Somebody new: from the administrator's link to a first run that is watched and stopped.

import assert from "node:assert/strict";
import { until } from "../harness.js";

export const title = "an activation link, a first run that appears live, its log, its end";

const train = `import signal, sys, time
def stop(*_):
    print("saving what there is", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
print("training begins", flush=True)
for step in range(1, 3000):
    print(f"step {step}: loss {2.3 / step:.4f}", flush=True)
    time.sleep(0.1)
`;

export default async function (story) {
  const { world } = story;

  const link = await story.step("the administrator makes a user without a password", async () => {
    const said = await world.ml("admin", "user", "create", "ana");
    return /http\S+#mll_\S+/.exec(said)[0];
  });

  const page = await story.open();
  await story.step("the link is opened, and a password chosen", async () => {
    await page.goto(link);
    const secret = link.split("#")[1];
    await until("the secret leaves the address bar", () => !page.url().includes(secret));
    await story.shot(page, "1-link");
    const password = world.password("ana");
    await page.getByLabel("New password", { exact: true }).fill(password);
    await page.getByLabel(/again$/).fill(password);
    await page.getByRole("button", { name: /sign in/i }).click();
    await page.waitForURL(`${world.url}/`);
    await page.locator(".who", { hasText: "ana" }).waitFor();
  });

  await story.step("the empty page says how to begin", async () => {
    await page.getByText("Nothing has been run yet").waitFor();
    const hint = await page.locator("main pre").innerText();
    assert.match(hint, /ml login/);
    assert.match(hint, new RegExp(world.url.replaceAll(".", "\\.")));
    await story.shot(page, "2-empty");
  });

  const id = await story.step("what is submitted in the terminal appears in the open page", async () => {
    // Whatever loads the page anew loses this.
    await page.evaluate(() => (globalThis.stillTheSamePage = true));
    await world.login("ana");
    const id = await world.run("ana", { "train.py": train }, "--name", "first-run");
    const row = page.locator("main tr", { hasText: "first-run" });
    await row.waitFor();
    await row.getByText("RUNNING").waitFor();
    assert(await page.evaluate(() => globalThis.stillTheSamePage === true), "the page was loaded anew");
    await story.shot(page, "3-live");
    return id;
  });

  await story.step("its log follows", async () => {
    await page.getByRole("link", { name: "first-run" }).click();
    await page.waitForURL(`${world.url}/experiments/${id}`);
    await page.locator(".log").getByText("training begins").waitFor();
    const last = () => page.locator(".log .line:last-child .t").innerText();
    const before = await last();
    await until("another line is written", async () => (await last()) !== before);
    await story.shot(page, "4-log");
  });

  await story.step("it is canceled in the page, which shows how it ends", async () => {
    page.answers = true;
    await page.getByRole("button", { name: "Cancel", exact: true }).click();
    await page.locator("#now .state", { hasText: "CANCELED" }).waitFor();
    assert.match(story.asked.at(-1), /Cancel experiment/);
    await page.locator(".log").getByText("saving what there is").waitFor();
    assert.equal(await page.getByRole("button", { name: "Kill" }).count(), 0, "what has ended cannot be killed");
    await story.shot(page, "5-canceled");
    const shown = await world.ml("ana", "status", String(id), "-o", "csv");
    assert.match(shown, /CANCELED/);
  });
}
