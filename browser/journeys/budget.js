// What a first visit costs, and that everything but what moves by itself works without script.

import assert from "node:assert/strict";
import { act, forms, signIn } from "../harness.js";
import { fill } from "../sample.js";

export const title = "first visits within 250 kB, nothing that blocks, and a journey without script";

const BUDGET_BYTES = 250_000;

export default async function (story) {
  const { world } = story;
  const ids = await story.step("a company at work", () => fill(world));

  /** One page in a browser that has seen nothing yet: what came over the line, and what held it up. */
  async function firstVisit(as, where) {
    const page = await story.open({ as });
    const line = await page.context().newCDPSession(page);
    await line.send("Network.enable");
    const asked = new Map();
    line.on("Network.requestWillBeSent", ({ requestId, request }) => asked.set(requestId, { url: request.url, bytes: 0 }));
    line.on("Network.dataReceived", ({ requestId, encodedDataLength }) => {
      const one = asked.get(requestId);
      if (one) one.bytes += encodedDataLength;
    });
    line.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
      const one = asked.get(requestId);
      if (one) Object.assign(one, { bytes: encodedDataLength, done: true });
    });
    await page.goto(where, { waitUntil: "load" });
    const state = await page.evaluate(() => ({
      inHead: [...document.head.querySelectorAll("script[src]")].filter((one) => !one.defer && !one.async && one.type !== "module").map((one) => one.src),
      inline: [...document.querySelectorAll("script:not([src]), style")].map((one) => one.outerHTML.slice(0, 80)),
      blocking: performance.getEntriesByType("resource").filter((one) => one.renderBlockingStatus === "blocking").map((one) => one.name),
      scripts: document.scripts.length,
    }));
    await page.context().close();
    return { ...state, requests: [...asked.values()], bytes: [...asked.values()].reduce((sum, one) => sum + one.bytes, 0) };
  }

  await story.step("first visits", async () => {
    const pages = [
      [undefined, "/sign-in"], [undefined, "/activate"], ["ana", "/"], ["ana", `/experiments/${ids.ended}`], ["ana", `/experiments/${ids.running}`],
      ["ana", `/experiments/${ids.ended}/log`], ["ana", `/experiments/${ids.ended}/code`], ["ana", "/workspaces"], ["ana", `/workspaces/${ids.workspace}/members`],
      ["admin", "/users"], ["admin", "/groups"], ["admin", "/roles"], ["admin", "/assignments"], ["admin", "/access"], ["admin", "/audit"], ["ana", "/queues"],
      ["ana", "/settings"], ["ana", "/settings/tokens"],
    ];
    const lines = [];
    for (const [as, where] of pages) {
      const seen = await firstVisit(as, where);
      lines.push(`   budget: ${String(Math.round(seen.bytes / 1000)).padStart(4)} kB in ${seen.requests.length} requests  ${where}`);
      assert(seen.bytes > 5000 && seen.requests.length >= 3, `${where}: the bytes are counted (${seen.bytes})`);
      assert(seen.bytes <= BUDGET_BYTES, `${where} costs ${seen.bytes} bytes: ${JSON.stringify(seen.requests)}`);
      for (const { url } of seen.requests) assert(url.startsWith(`${world.url}/`), `${where} asks ${url}`);
      assert(seen.scripts >= 1, `${where} has its script`);
      assert.deepEqual(seen.inHead, [], `${where}: scripts that hold the page up`);
      assert.deepEqual(seen.inline, [], `${where}: scripts and styles written into it`);
      assert(seen.blocking.every((url) => /\.css$/.test(url)) && seen.blocking.length <= 1, `${where}: what holds the page up is one sheet of its own: ${seen.blocking}`);
    }
    console.log(lines.join("\n"));
  });

  await story.step("the measure sees what it is for", async () => {
    const port = await world.site({
      "/": `<!doctype html><title>slow</title><script src="/slow.js"></script><script src="/big.js"></script><p>x</p>`,
      "/slow.js": { html: "1", headers: { "content-type": "text/javascript" } },
      "/big.js": { html: `//${"x".repeat(300_000)}`, headers: { "content-type": "text/javascript" } },
    });
    const wrong = story.wrong.length;
    const seen = await firstVisit(undefined, `http://127.0.0.1:${port}/`);
    assert(story.wrong.splice(wrong).some((one) => one.includes("asked elsewhere")), "requests to others are seen");
    assert(seen.bytes > BUDGET_BYTES && seen.inHead.length === 2 && seen.blocking.length > 0);
  });

  await story.step("without script: sign in, make a workspace, look at an experiment and its log, sign out", async () => {
    const page = await story.open({ javaScriptEnabled: false });
    await signIn(page, "ana", world.password("ana"));
    await page.waitForURL(`${world.url}/`);
    await world.assign("WorkspaceCreator", { user: "ana" });
    await page.getByRole("link", { name: "Workspaces" }).click();
    await forms(page).getByLabel("Name", { exact: true }).fill("Without script");
    await act(page, "create").click();
    await page.getByRole("heading", { name: "Without script" }).waitFor();
    await page.getByRole("link", { name: "Experiments" }).first().click();
    await page.getByRole("search").getByLabel(/^Name/).fill("lights-small");
    await page.getByRole("button", { name: "Apply" }).click();
    await page.waitForURL((url) => url.searchParams.get("name") === "lights-small");
    assert.equal(await page.locator("main tbody tr").count(), 1, "the filter works");
    await page.getByRole("link", { name: "lights-small" }).click();
    await page.locator(".log").getByText("epoch  40/40").waitFor();
    await page.getByRole("link", { name: /Whole log/ }).click();
    await page.locator(".log").getByText("loading 48,211 pictures").waitFor();
    assert.equal(await page.getByText("Pause", { exact: true }).filter({ visible: true }).count(), 0, "what needs script is not shown");
    await page.getByRole("searchbox").fill("epoch  39/");
    await page.getByRole("searchbox").press("Enter");
    await page.waitForURL((url) => url.search !== "");
    const found = await page.locator(".log .line .t").allInnerTexts();
    assert(found.length > 0 && found.every((line) => line.includes("epoch  39/")), `the log is searched: ${found}`);
    await story.shot(page, "log-without-script");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.waitForURL((url) => url.pathname === "/sign-in");
    await page.goto("/");
    await page.waitForURL((url) => url.pathname === "/sign-in");
  });
}
