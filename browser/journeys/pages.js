// Every page of the route table, with something to show: no axe violation, nothing on the console, no page that is wider than a telephone, light and dark;
// and a picture of each.

import assert from "node:assert/strict";
import * as fs from "node:fs";
import * as path from "node:path";
import { root } from "../harness.js";
import { fill } from "../sample.js";

export const title = "every page at 360 and 1440 px, light and dark";

/** The pages that the route table has: it says so of each. */
export function table() {
  const lines = fs.readFileSync(path.join(root, "docs/routes.md"), "utf8").split("\n");
  return lines.map((line) => /^\| GET \| `([^`]+)` \| [^|]+ \| page /.exec(line)?.[1]).filter(Boolean);
}

/** Where each is to be looked at, and as whom; the name of its picture. */
const visits = (ids) => ({
  "/": [["ana", "/", "home"], ["ana", "/?state=ERROR&workspace=Traffic+Lights", "home-filtered"], ["ana", "/?name=nothing-like-it", "home-nothing-fits"], ["new", "/", "home-empty"]],
  "/sign-in": [[null, "/sign-in", "sign-in"]],
  "/activate": [[null, "/activate", "activate"]],
  "/docs/api": [[null, "/docs/api", "docs-api"]],
  "/experiments/{experiment}": [
    ["ana", `/experiments/${ids.ended}`, "experiment-ended"],
    ["ana", `/experiments/${ids.running}`, "experiment-running"],
    ["ben", `/experiments/${ids.failed}`, "experiment-failed"],
    ["ben", `/experiments/${ids.queued}`, "experiment-queued"],
    ["admin", `/experiments/${ids.others}`, "experiment-by-administrator"],
  ],
  "/experiments/{experiment}/again": [["ana", `/experiments/${ids.ended}/again`, "experiment-again"]],
  "/experiments/{experiment}/code": [["ana", `/experiments/${ids.ended}/code`, "experiment-code"], ["ana", `/experiments/${ids.ended}/code?file=train.py`, "experiment-code-file"]],
  "/experiments/{experiment}/log": [["ana", `/experiments/${ids.running}/log`, "log-running"], ["ben", `/experiments/${ids.failed}/log`, "log-failed"]],
  "/workspaces": [["ana", "/workspaces", "workspaces"], ["admin", "/workspaces?all=1", "workspaces-all"], ["new", "/workspaces", "workspaces-new"]],
  "/workspaces/{workspace}": [["ana", `/workspaces/${ids.workspace}`, "workspace"]],
  "/workspaces/{workspace}/members": [["ana", `/workspaces/${ids.workspace}/members`, "workspace-members"]],
  "/workspaces/{workspace}/settings": [["ana", `/workspaces/${ids.workspace}/settings`, "workspace-settings"]],
  "/workspaces/{workspace}/projects/{project}": [["ana", `/workspaces/${ids.workspace}/projects/${ids.project}`, "project"]],
  "/users": [["admin", "/users", "users"], ["admin", "/users?state=all", "users-all"], ["ana", "/users", "users-seen-by-a-user"]],
  "/users/{user}": [["admin", `/users/${ids.user}`, "user"], ["admin", `/users/${ids.service}`, "service-account"], ["ben", `/users/${ids.user}`, "user-seen-by-a-user"]],
  "/service-accounts": [["admin", "/service-accounts", "service-accounts"]],
  "/groups": [["admin", "/groups", "groups"], ["new", "/groups", "groups-new"]],
  "/groups/{group}": [["admin", `/groups/${ids.group}`, "group"], ["ana", `/groups/${ids.group}`, "group-seen-by-a-member"]],
  "/roles": [["admin", "/roles", "roles"], ["admin", "/roles?make=yes", "role-make"]],
  "/roles/{role}": [["admin", `/roles/${ids.role}`, "role"]],
  "/assignments": [["admin", "/assignments", "assignments"], ["admin", `/assignments?change=${ids.assignment}`, "assignment-change"]],
  "/access": [
    ["admin", "/access", "access"],
    ["admin", "/access?who=ben&permission=experiments:update&on=experiment:" + ids.running, "access-yes"],
    ["ben", "/access?permission=workspaces:delete&on=workspace:Traffic+Lights", "access-no"],
    ["ben", "/access?permission=experiments:create&on=workspace:Speech", "access-unseen", 404],
    ["admin", "/access?tab=who-can&permission=experiments:update&on=workspace:Traffic+Lights", "access-who-can"],
    ["admin", "/access?tab=what-can&who=ana", "access-what-can"],
    ["admin", "/access?tab=what-if&change=assign&role=Editor&user=tom&on=workspace:Speech", "access-what-if"],
  ],
  "/access/requests": [["admin", "/access/requests", "requests"], ["admin", "/access/requests?show=all", "requests-all"], ["ana", "/access/requests?show=mine", "requests-mine"], ["new", "/access/requests", "requests-new"]],
  "/access/shadow": [["admin", "/access/shadow?show=check", "shadow-in-rbac"]],
  "/audit": [["admin", "/audit", "audit"], ["admin", "/audit?outcome=denied", "audit-denied"]],
  "/vaults": [["ana", "/vaults", "vaults"], ["admin", "/vaults", "vaults-of-administrators"]],
  "/vaults/new": [["ana", "/vaults/new", "vault-new"], ["admin", "/vaults/new", "vault-new-for-others"]],
  "/vaults/{vault}": [["ana", `/vaults/${ids.vault}`, "vault"], ["ana", `/vaults/${ids.vault}?reveal=true`, "vault-edited"]],
  "/models": [["ana", "/models", "models"]],
  "/models/new": [["ana", "/models/new", "model-new"]],
  "/models/{model}": [["ana", `/models/${ids.model}`, "model"]],
  "/stacks": [["ana", "/stacks", "stacks"]],
  "/stacks/new": [["ana", "/stacks/new", "stack-new"]],
  "/stacks/{stack}": [["ana", `/stacks/${ids.stack}`, "stack"]],
  "/queues": [["ana", "/queues", "queues"], ["admin", "/queues", "queues-full"]],
  "/queues/new": [["admin", "/queues/new", "queue-new"]],
  "/queues/{queue}": [["ana", "/queues/1", "queue-seen-by-a-user"], ["admin", "/queues/1", "queue"]],
  "/agents/{agent}": [["admin", "/agents/built-in", "agent"], ["ana", "/agents/built-in", "agent-seen-by-a-user"]],
  "/settings": [["ana", "/settings", "settings"], ["new", "/settings", "settings-new"]],
  "/settings/tokens": [["ana", "/settings/tokens", "tokens"], ["new", "/settings/tokens", "tokens-new"]],
  "/settings/sessions": [["ana", "/settings/sessions", "sessions"]],
});

export default async function (story) {
  const { world } = story;
  const ids = await story.step("a company at work", () => fill(world));
  const wanted = visits(ids);

  await story.step("each page of the route table is visited, and none that is not there", () => {
    const routes = table();
    assert(routes.length > 20, `the route table has only ${routes.length} pages: ${routes}`);
    assert.deepEqual(Object.keys(wanted).sort(), routes.sort());
  });

  const contexts = new Map();
  const asWhom = (who) => {
    if (!contexts.has(who)) contexts.set(who, story.context(who ? { as: who } : {}));
    return contexts.get(who);
  };
  const faults = [];

  const every = [[360, 800, "light"], [360, 800, "dark"], [1440, 900, "light"], [1440, 900, "dark"]];
  // One state more of a page that has been seen in all of them.
  const across = [[360, 800, "dark"], [1440, 900, "light"]];

  /** Looks at a page in both sizes and both schemes. */
  async function look(pages, [who, where, name, status = 200], sights) {
    if (!pages.has(who)) pages.set(who, await (await asWhom(who)).newPage());
    const page = pages.get(who);
    page.expected = new Set(status === 200 ? [] : [status]);
    const fault = (what) => faults.push(`${where} as ${who ?? "nobody"}: ${what}`);
    await page.setViewportSize({ width: 360, height: 800 });
    const answer = await page.goto(where, { waitUntil: "load" });
    if (answer.status() !== status) fault(`${answer.status()} and not ${status}`);
    if (new URL(page.url()).pathname !== new URL(where, world.url).pathname) fault(`led to ${page.url()}`);
    if ((await page.locator("h1").count()) !== 1) fault("has not one h1");
    if (!/ · Bailiwick$/.test(await page.title())) fault(`is titled ${await page.title()}`);
    for (const [width, height, colorScheme] of sights) {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme });
      const at = `${width} px, ${colorScheme}`;
      const wide = await page.evaluate(() => {
        const { scrollWidth, clientWidth } = document.documentElement;
        if (scrollWidth <= clientWidth) return null;
        const out = [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > clientWidth + 1 && !one.closest(".scroll, .log, pre"));
        return `${scrollWidth} of ${clientWidth}: ${out.slice(0, 3).map((one) => one.outerHTML.slice(0, 120)).join(" | ")}`;
      });
      if (wide) fault(`${at}: the document scrolls sideways, ${wide}`);
      // What does not depend on colours has been seen by light.
      const only = sights === every && colorScheme === "dark" ? "cat.color" : undefined;
      for (const violation of await story.violations(page, only)) fault(`${at}: axe: ${violation}`);
      await story.shot(page, `${name}-${width}-${colorScheme}`, { fullPage: true });
    }
  }
  async function lookAt(list, sights = across) {
    const left = [...list];
    const lane = async () => {
      const pages = new Map();
      for (let next = left.shift(); next; next = left.shift()) await look(pages, next, sights);
      await Promise.all([...pages.values()].map((page) => page.close()));
    };
    await Promise.all([lane(), lane()]);
    assert.deepEqual(faults, []);
  }

  await story.step("the checks find what they are for", async () => {
    const page = await story.open();
    page.mayFail = true;
    await page.goto("/sign-in");
    await page.evaluate(() => {
      document.querySelector("label").remove();
      console.error("seen");
      const wide = document.body.appendChild(document.createElement("div"));
      wide.style.width = "3000px";
      wide.textContent = "wide";
    });
    assert((await story.violations(page)).some((one) => one.startsWith("label")), "axe finds a field without label");
    assert(page.marks.some((mark) => mark.includes("seen")), "the console is listened to");
    assert(await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth));
    await page.close();
  });

  await story.step("every page", () => lookAt(Object.values(wanted).map((states) => states[0]), every));
  await story.step("the same with more, with less, and for others", () => lookAt(Object.values(wanted).flatMap((states) => states.slice(1))));

  await story.step("what is not there, and what one may not do", async () => {
    await lookAt([
      ["ana", "/no-such-page", "error-404-page", 404],
      ["new", `/experiments/${ids.others}`, "error-404-experiment", 404],
      ["ana", "/service-accounts", "error-403", 403],
    ]);
  });

  await story.step("mode shadow says so", async () => {
    await world.halt();
    await world.serve("--access", "shadow");
    // Somebody does what roles would refuse.
    await world.api("ben", "GET", `/experiments/${ids.others}`).catch(() => {});
    await lookAt([["admin", "/", "shadow-home"], ["admin", "/access/shadow?show=check", "shadow-differences"]]);
    const page = await (await asWhom("admin")).newPage();
    await page.goto("/");
    await page.locator(".banner", { hasText: "not enforced" }).waitFor();
    await page.close();
  });

  await story.step("mode off says so, and asks nobody who they are", async () => {
    await world.halt();
    await world.serve("--access", "off");
    await lookAt([[null, "/", "off-home"], [null, "/settings", "off-settings"], [null, "/workspaces", "off-workspaces"]]);
    const page = await (await asWhom(null)).newPage();
    await page.goto("/");
    await page.locator(".banner", { hasText: "Access control is off" }).waitFor();
    await page.close();
  });
}
