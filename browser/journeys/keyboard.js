// Nothing but keys: no pointer, no field filled in from outside. What has the focus must be seen to have it.

import assert from "node:assert/strict";
import { until } from "../harness.js";

export const title = "whole journeys by keyboard alone";

const train = `import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
for step in range(1, 3000):
    print(f"step {step}", flush=True)
    time.sleep(0.1)
`;

/** What has the focus: its role or element, what it is called, and whether one sees it. */
function focused() {
  const at = document.activeElement;
  if (!at || at === document.body) return null;
  const style = getComputedStyle(at);
  const box = at.getBoundingClientRect();
  const label = at.getAttribute("aria-label") || [...(at.labels ?? [])].map((one) => one.textContent).join(" ") || at.textContent || at.value;
  return {
    kind: at.tagName.toLowerCase(),
    form: at.form?.method,
    name: label.trim().replace(/\s+/g, " "),
    ring: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1,
    inside: box.bottom > 0 && box.top < innerHeight && box.right > 0 && box.left < innerWidth,
  };
}

export default async function (story) {
  const { world } = story;
  await world.user("ana", { display_name: "Ana Lima" });
  await world.user("ben");
  await world.assign("WorkspaceCreator", { user: "ana" });
  await world.login("ana");
  const id = await world.run("ana", { "train.py": train }, "--name", "by-keys");
  await world.run("ana", { "train.py": "print('done')" }, "--name", "beside-it");
  await world.became(id, "RUNNING");

  const page = await story.open();
  page.answers = true;
  const keys = page.keyboard;

  /** Presses Tab until what is wanted has the focus. */
  async function tabTo(kind, name, form, most = 120) {
    const passed = [];
    for (let pressed = 0; pressed < most; pressed += 1) {
      await keys.press("Tab");
      const at = await page.evaluate(focused);
      if (!at) continue;
      assert(at.ring, `the focus is not seen on ${at.kind} “${at.name}” of ${page.url()}`);
      assert(at.inside, `the focus is outside what is seen, on ${at.kind} “${at.name}” of ${page.url()}`);
      if (at.kind === kind && name.test(at.name) && (!form || at.form === form)) return at;
      passed.push(`${at.kind} “${at.name.slice(0, 30)}”`);
    }
    throw new Error(`${most} times Tab do not reach ${kind} ${name} on ${page.url()}: ${passed.slice(0, 40).join(", ")}`);
  }
  const arrived = (what) => page.waitForURL((url) => what.test(url.pathname + url.search));

  await story.step("sign in: the first field has the focus", async () => {
    await page.goto("/sign-in");
    await until("the name has the focus", async () => (await page.evaluate(focused))?.kind === "input");
    await keys.type("ana");
    await keys.press("Tab");
    await keys.type(world.password("ana"));
    await keys.press("Enter");
    await arrived(/^\/$/);
  });

  await story.step("skip the menu", async () => {
    await keys.press("Tab");
    const first = await page.evaluate(focused);
    assert.match(first.name, /Skip to content/);
    assert(first.inside, "what skips the menu is seen when it has the focus");
    await keys.press("Enter");
    await until("the content has the focus", () => page.evaluate(() => document.activeElement.id === "main"));
  });

  await story.step("j and k go through the rows, Enter opens one", async () => {
    await keys.press("j");
    assert.match((await page.evaluate(focused)).name, /beside-it/);
    await keys.press("j");
    assert.match((await page.evaluate(focused)).name, /by-keys/);
    await keys.press("k");
    assert.match((await page.evaluate(focused)).name, /beside-it/);
    await keys.press("j");
    // The rows are renewed meanwhile; the focus must stay where it is.
    await page.waitForResponse((answer) => new URL(answer.url()).pathname === "/" && answer.request().resourceType() === "fetch");
    await until("the focus stays in its row", async () => /by-keys/.test((await page.evaluate(focused))?.name));
    await story.shot(page, "1-row");
    await keys.press("Enter");
    await arrived(new RegExp(`^/experiments/${id}$`));
  });

  await story.step("its log, searched", async () => {
    await tabTo("a", /Whole log/);
    await keys.press("Enter");
    await arrived(/\/log$/);
    await page.locator(".log .line").first().waitFor();
    await keys.press("/");
    assert.match((await page.evaluate(focused)).name, /Search/);
    await keys.type("step 3");
    await until("only what fits is shown", async () => {
      const shown = await page.locator(".log .line:not([hidden]) .t").allInnerTexts();
      return shown.length > 0 && shown.every((line) => line.includes("step 3"));
    });
    await tabTo("button", /^Pause$/);
    await keys.press("Space");
    await until("it is paused", async () => /paused/.test(await page.locator("#log-status").innerText()));
    await story.shot(page, "2-log");
  });

  await story.step("back, and cancel it", async () => {
    await tabTo("a", /^by-keys$/);
    await keys.press("Enter");
    await arrived(new RegExp(`^/experiments/${id}$`));
    await tabTo("button", /^Cancel$/);
    await keys.press("Enter");
    await page.locator("#now .state", { hasText: "CANCELED" }).waitFor();
    assert.match(story.asked.at(-1), /Cancel experiment/, "it was asked about first");
  });

  await story.step("make a workspace", async () => {
    await tabTo("a", /^Workspaces$/);
    await keys.press("Enter");
    await arrived(/^\/workspaces$/);
    await tabTo("input", /^Name/, "post");
    await keys.type("Made by keys");
    await keys.press("Enter");
    await page.getByRole("heading", { name: "Made by keys" }).waitFor();
  });

  await story.step("add a member", async () => {
    await tabTo("a", /^Members$/);
    await keys.press("Enter");
    await arrived(/\/members$/);
    await tabTo("input", /^Name/, "post");
    await keys.type("ben");
    await tabTo("select", /^Role$/, "post");
    await keys.press("Home");
    while ((await page.evaluate(() => document.activeElement.value)) !== "Editor") await keys.press("ArrowDown");
    await tabTo("button", /^Add$/);
    await keys.press("Enter");
    await page.getByRole("region", { name: "Members" }).getByRole("link", { name: "ben" }).waitFor();
    await story.shot(page, "3-member");
    const members = await world.api("ana", "GET", "/workspaces/Made%20by%20keys/members");
    assert(members.items.some((one) => one.name === "ben" && one.role === "Editor"));
  });

  await story.step("sign out", async () => {
    await tabTo("button", /^Sign out$/);
    await keys.press("Enter");
    await arrived(/^\/sign-in$/);
  });
}
