// What others could try: script in whatever people can type, frames, forms of other sites, foreign ways on, planted sessions, used links, others' numbers.

import assert from "node:assert/strict";
import { act, forms, signIn, until } from "../harness.js";

export const title = "script in names and logs, frames, foreign forms, redirects, sessions, links, others' numbers";

// Would run anywhere: out of an attribute, out of a tag, as a tag. The names of places take no slash.
const tag = `"'><img src=x onerror=hit()>`;
// Where quotes are doubled on the way, as in YAML.
const bare = "<img src=x onerror=hit()>";
const script = `</textarea></pre><script>hit()</script>${tag}`;
const prints = `import sys, time
text = ${JSON.stringify(script)}
print(text, flush=True)
print(text, file=sys.stderr, flush=True)
print("\\x1b[31m" + text + "\\x1b[0m", flush=True)
for number in range(3000):
    print(number, text, flush=True)
    time.sleep(0.2)
`;

export default async function (story) {
  const { world } = story;
  const said = {};

  await story.step("script in every name, label, reason and log line", async () => {
    await world.user("ana", { display_name: script });
    await world.user("ben");
    await world.user("mal");
    for (const name of ["ana", "ben", "mal"]) await world.login(name);
    const make = async (where, body) => {
      const made = await world.api("admin", "POST", where, body);
      return Object.values(made).find((value) => value?.id)?.id ?? made.id;
    };
    said.workspace = await make("/workspaces", { name: `w${tag}`, description: script });
    said.project = await make(`/workspaces/${said.workspace}/projects`, { name: `p${tag}`, description: script });
    said.group = await make("/groups", { name: `g${tag}`, description: script, users: ["ana"] });
    said.role = await make("/roles", { name: `r${tag}`, description: script, permissions: ["experiments:read", "workspaces:read", "projects:read", "jobs:read"] });
    await world.assign("WorkspaceAdmin", { user: "ana" }, `workspace:${said.workspace}`);
    await world.api("admin", "POST", "/assignments", { assignments: [{ role: String(said.role), group: String(said.group), on: `workspace:${said.workspace}` }], reason: script });
    await world.assign("TokenCreator", { user: "ana" });
    await world.api("ana", "POST", "/tokens", { label: `t${tag}` });
    await world.api("ana", "POST", "/access/requests", { role: "Editor", on: "workspace:default", lifetime_ms: 3_600_000, why: script });
    await world.api("ben", "POST", "/access/requests", { role: "Viewer", on: `workspace:w${tag}`, lifetime_ms: 3_600_000, why: script });
    const decided = (await world.api("admin", "GET", "/access/requests")).items.find((one) => one.user === "ben");
    await world.api("admin", "POST", `/access/requests/${decided.id}/decline`, { answer: script });
    const files = { "experiment.yaml": `name: x\nentrypoint: python3 train.py\nlabels: [${JSON.stringify(`l${bare}`)}]\ndescription: ${JSON.stringify(script)}\n`, "train.py": prints, [`f${tag}.txt`]: script };
    said.experiment = await world.run("ana", files, "--name", `e${tag}`, "--workspace", String(said.workspace), "--project", String(said.project));
    await world.became(said.experiment, "RUNNING");
    said.request = (await world.api("admin", "GET", "/access/requests")).items.find((one) => one.user === "ana").id;
    said.user = (await world.api("admin", "GET", "/users")).items.find((one) => one.name === "ana").id;
  });

  await story.step("a script that runs would be seen", async () => {
    const policy = (await fetch(`${world.url}/sign-in`)).headers.get("content-security-policy");
    assert.match(policy, /default-src 'none'/);
    const html = `<!doctype html><title>x</title><input value="${tag.replace("'", "")}"><script>hit()</script>`;
    const port = await world.site({ "/": html, "/policy": { html, headers: { "content-security-policy": policy } } });
    const page = await (await watched()).newPage();
    page.mayFail = true;
    await page.goto(`http://127.0.0.1:${port}/`);
    await until("the marker runs", () => page.evaluate(() => globalThis.hits > 0));
    assert(page.marks.some((mark) => mark.startsWith("dialog")), "a dialog is seen");
    page.marks.length = 0;
    await page.goto(`http://127.0.0.1:${port}/policy`);
    await until("the policy reports", () => page.evaluate(() => globalThis.reports.length > 0));
    assert.equal(await page.evaluate(() => globalThis.hits), 0);
    assert(page.marks.some((mark) => /console:.*Content Security Policy/.test(mark)), "what the policy stops is on the console");
    assert.equal(await page.locator("img[src=x]").count(), 1);
    await page.context().close();
  });

  /** A browser in which a script that got in leaves its mark. */
  async function watched(options) {
    const context = await story.context(options);
    await context.addInitScript(() => {
      globalThis.hits = 0;
      globalThis.reports = [];
      globalThis.hit = () => {
        globalThis.hits += 1;
        alert("a script ran");
      };
      document.addEventListener("securitypolicyviolation", (event) => globalThis.reports.push(`${event.violatedDirective} ${event.blockedURI}`));
    });
    return context;
  }
  async function harmless(page, where) {
    const found = await page.evaluate(() => ({ hits: globalThis.hits, reports: globalThis.reports, tags: document.querySelectorAll("img[src=x], main script").length }));
    assert.deepEqual(found, { hits: 0, reports: [], tags: 0 }, `script got into ${where}`);
  }

  await story.step("it is shown as text, and nothing of it runs", async () => {
    const shows = {
      ana: [
        ["/", "e", "p"], [`/experiments/${said.experiment}`, "e", "l"], [`/experiments/${said.experiment}/log`, "e"], [`/experiments/${said.experiment}/code`, "e", "f"],
        [`/experiments/${said.experiment}/again`, "e", "l"], ["/workspaces", "w"], [`/workspaces/${said.workspace}`, "w", "p"], [`/workspaces/${said.workspace}/members`, "w", "g", "r"],
        [`/workspaces/${said.workspace}/settings`, "w"], [`/workspaces/${said.workspace}/projects/${said.project}`, "w", "p", "g", "r"], ["/settings", "g", "r"],
        ["/settings/tokens", "t"], ["/access/requests", ""], [`/groups/${said.group}`, "g", "r"], ["/queues", "e"],
      ],
      admin: [
        ["/users", "g"], [`/users/${said.user}`, "g", "r", "w"], ["/groups", "g"], [`/groups/${said.group}`, "g", "r", "w"], ["/roles", "r"], [`/roles/${said.role}`, "r", "g", "w"],
        ["/assignments", "r", "g", "w"], ["/access/requests?show=all", ""], ["/audit", ""], ["/access?tab=what-can&who=ana", "w"],
        [`/access?who=ana&permission=experiments:read&on=experiment:${said.experiment}`, "g", "r"],
        [`/access?tab=who-can&permission=experiments:read&on=experiment:${said.experiment}`, "g", "r"],
      ],
    };
    for (const [who, pages] of Object.entries(shows)) {
      const page = await (await watched({ as: who })).newPage();
      for (const [where, ...kinds] of pages) {
        const answer = await page.goto(where, { waitUntil: "load" });
        assert.equal(answer.status(), 200, where);
        const html = await page.locator("main").evaluate((main) => main.textContent + [...main.querySelectorAll("input, textarea, option")].map((one) => one.value).join(" "));
        for (const kind of kinds) assert(html.includes(kind === "l" ? kind + bare : kind + tag), `${where} shows ${kind}${tag}`);
        await harmless(page, where);
      }
      await page.context().close();
    }
  });

  await story.step("nor of what a log says while it is followed", async () => {
    const page = await (await watched({ as: "ana" })).newPage();
    await page.goto(`/experiments/${said.experiment}/log`);
    const lines = page.locator(".log .line");
    await until("lines are there", async () => (await lines.count()) > 4);
    const before = await lines.last().innerText();
    await until("lines follow", async () => (await lines.last().innerText()) !== before);
    assert((await lines.filter({ hasText: "<script>hit()</script>" }).count()) > 2);
    await harmless(page, "the log that is followed");
    await page.goto("/");
    await page.waitForResponse((answer) => answer.request().resourceType() === "fetch");
    await page.getByText(`e${tag}`).first().waitFor();
    await harmless(page, "the table that renews itself");
    await page.context().close();
  });

  await story.step("nor of what an address says", async () => {
    const page = await (await watched({ as: "admin" })).newPage();
    const given = encodeURIComponent(script);
    page.expected = new Set([400, 401, 404, 422]);
    for (const where of [
      `/?name=${given}&workspace=${given}`, `/?state=${given}`, `/?after=${given}`, `/?${given}=1`, `/users?text=${given}`, `/groups?text=${given}`, `/roles?text=${given}`, `/roles/${given}`,
      `/assignments?user=${given}&role=${given}`, `/access?who=${given}&permission=${given}&on=${given}`, `/access?tab=${given}`, `/access?tab=what-if&change=${given}&role=${given}`,
      `/access/requests?show=${given}&role=${given}&on=${given}&done=${given}`, `/audit?user=${given}&object=${given}&since=${given}`, `/experiments/${given}`, `/workspaces/${given}`,
      `/experiments/${said.experiment}/log?find=${given}`, `/experiments/${said.experiment}/code?file=${given}`, `/settings?done=${given}`, `/${given}`,
    ]) {
      await page.goto(where, { waitUntil: "load" });
      await harmless(page, where);
    }
    await page.context().clearCookies();
    await page.goto(`/sign-in?next=${encodeURIComponent(`/${script}`)}`);
    await harmless(page, "/sign-in");
    page.expected.add(401).add(422);
    await page.getByLabel("Name").fill(script);
    await page.getByLabel("Password").fill("x");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.locator("#problem").waitFor();
    assert.equal(await page.getByLabel("Name").inputValue(), script);
    await harmless(page, "the sign-in that failed");
    await page.context().close();
  });

  await story.step("no other site frames a page", async () => {
    const port = await world.site({
      "/": `<!doctype html><title>x</title><iframe name="ours" src="${world.url}/sign-in"></iframe><iframe name="theirs" src="/inner"></iframe>`,
      "/inner": "<!doctype html><title>inner</title><p>inner</p>",
    });
    const page = await story.open({ as: "ana" });
    page.mayFail = true;
    for (const host of ["127.0.0.1", "localhost"]) {
      await page.goto(`http://${host}:${port}/`, { waitUntil: "load" });
      const inside = (name) => page.frame({ name }).locator("body").innerText().catch(() => "");
      await until("a frame that is allowed is filled", async () => (await inside("theirs")).includes("inner"));
      assert(!page.frame({ name: "ours" }).url().startsWith(world.url), "the frame is not at our page");
      assert.doesNotMatch(await inside("ours"), /Sign in|Password/);
      assert(page.marks.some((mark) => /frame-ancestors/.test(mark)), "and the browser says why");
      page.marks.length = 0;
    }
    await page.context().close();
  });

  const workspaces = async () => (await world.api("admin", "GET", "/workspaces")).items.map((one) => one.name);
  await story.step("a form of another origin changes nothing", async () => {
    await world.assign("WorkspaceCreator", { user: "ana" });
    const form = (name, more = "") => `<!doctype html><title>x</title><form method="post" action="${world.url}/workspaces"><input name="act" value="create"><input name="name" value="${name}">${more}<button>go</button></form>`;
    const other = await story.open({ as: "ben" });
    await other.goto("/settings");
    const othersToken = await other.locator("input[name=form_token]").first().inputValue();
    const port = await world.site({ "/": form("evil"), "/token": form("evil-token", `<input name="form_token" value="${othersToken}">`), "/empty": form("evil-empty", `<input name="form_token" value="">`) });
    const page = await story.open({ as: "ana" });
    page.mayFail = true;
    for (const host of ["127.0.0.1", "localhost"]) {
      for (const where of ["/", "/token", "/empty"]) {
        await page.goto(`http://${host}:${port}${where}`);
        const answer = page.waitForResponse((answer) => answer.url().startsWith(world.url) && answer.request().method() === "POST");
        await page.getByRole("button").click();
        assert.notEqual((await answer).status(), 200);
        await page.waitForURL((url) => url.href.startsWith(world.url));
        if (host === "127.0.0.1") {
          // The cookie comes along between ports of one host: here it is the token that is missing.
          assert.equal((await answer).status(), 403);
        }
      }
      const read = await page.goto(`http://${host}:${port}/`).then(() => page.evaluate((url) => fetch(url, { credentials: "include" }).then((answer) => answer.text(), () => null), `${world.url}/settings`));
      assert.equal(read, null, "no other origin reads a page");
    }
    assert.deepEqual((await workspaces()).filter((name) => name.startsWith("evil")), []);
    // The same form, from a page of ours, does it.
    page.mayFail = false;
    await page.goto("/workspaces");
    await forms(page).getByLabel("Name", { exact: true }).fill("not-evil");
    await act(page, "create").click();
    await page.getByRole("heading", { name: "not-evil" }).waitFor();
    assert((await workspaces()).includes("not-evil"));
    await page.context().close();
  });

  await story.step("signing in leads nowhere else", async () => {
    for (const next of ["//evil.example/", "https://evil.example/", "/\\evil.example/", "\\\\evil.example", "javascript:hit()", "/\t/evil.example", "/%0d%0aLocation:%20https://evil.example", "http:evil.example", " //evil.example"]) {
      const page = await (await watched()).newPage();
      await page.goto(`/sign-in?next=${encodeURIComponent(next)}`);
      await page.getByLabel("Name").fill("ben");
      await page.getByLabel("Password").fill(world.password("ben"));
      page.expected = new Set([404]);
      await page.getByRole("button", { name: "Sign in" }).click();
      await page.waitForURL((url) => url.pathname !== "/sign-in");
      assert.equal(new URL(page.url()).origin, world.url, `next=${next}`);
      await harmless(page, `next=${next}`);
      await page.context().close();
    }
    const page = await story.open();
    await page.goto("/settings/sessions");
    await signInHere(page);
    assert.equal(new URL(page.url()).pathname, "/settings/sessions", "a page of our own is come back to");
    await page.context().close();
  });
  async function signInHere(page) {
    await page.getByLabel("Name").fill("ben");
    await page.getByLabel("Password").fill(world.password("ben"));
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL((url) => url.pathname !== "/sign-in");
  }

  await story.step("a session that was planted is replaced, and one that was signed out is over", async () => {
    const planted = await world.session("mal");
    const page = await story.open();
    await page.context().addCookies([{ name: "ml_session", value: planted, url: world.url }]);
    await signIn(page, "ben", world.password("ben"));
    await page.waitForURL(`${world.url}/`);
    const cookie = (await page.context().cookies(world.url)).find((one) => one.name === "ml_session");
    assert.notEqual(cookie.value, planted);
    assert.equal(cookie.httpOnly, true);
    assert(["Lax", "Strict"].includes(cookie.sameSite), cookie.sameSite);
    assert.equal(await page.evaluate(() => document.cookie), "", "no script reads a cookie");
    assert.equal((await world.asked("GET", "/api/v1/me", undefined, planted)).user.name, "mal", "what was planted is not ben's");
    assert.equal((await world.asked("GET", "/api/v1/me", undefined, cookie.value)).user.name, "ben");
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.waitForURL((url) => url.pathname === "/sign-in");
    await page.context().addCookies([{ name: "ml_session", value: cookie.value, url: world.url }]);
    await page.goto("/");
    assert.equal(new URL(page.url()).pathname, "/sign-in", "the old session is over");
    await page.context().close();
  });

  await story.step("a link works once", async () => {
    const link = /http\S+#mll_\S+/.exec(await world.ml("admin", "user", "create", "eva"))[0];
    const use = async (password) => {
      const page = await story.open();
      page.expected.add(401).add(422);
      await page.goto(link);
      await page.getByLabel("New password", { exact: true }).fill(password);
      await page.getByLabel(/again$/).fill(password);
      await page.getByRole("button", { name: /sign in/i }).click();
      return page;
    };
    const first = await use(world.password("eva"));
    await first.waitForURL(`${world.url}/`);
    const second = await use("another-password-of-mine");
    await second.locator("#problem").waitFor();
    assert.equal(new URL(second.url()).pathname, "/activate");
    assert.equal((await second.context().cookies()).filter((one) => one.name === "ml_session" && one.value).length, 0);
    await world.session("eva");
  });

  await story.step("others' numbers are not found, and nothing of theirs changes", async () => {
    const mine = await world.run("mal", { "train.py": "print(1)" }, "--name", "mine");
    await world.became(mine, "COMPLETED");
    const page = await story.open({ as: "mal" });
    page.expected = new Set([403, 404, 409, 422]);
    const e = `/experiments/${said.experiment}`;
    const w = `/workspaces/${said.workspace}`;
    const none = 987654;
    const get = (where) => page.evaluate(async (where) => {
      const answer = await fetch(where);
      return { status: answer.status, text: await answer.text() };
    }, where);
    // What one reads there, but for the number.
    const blank = (text, id) => text.replace(/^[^]*<main/, "<main").replace(/<[^>]*>/g, " ").replace(/request +[0-9a-f]{16}/, "").replaceAll(new RegExp(`\\b${id}\\b`, "g"), "N");
    await page.goto("/");
    for (const [there, id] of [
      [e, said.experiment], [`${e}/log`, said.experiment], [`${e}/log.txt`, said.experiment], [`${e}/log/stream`, said.experiment], [`${e}/code`, said.experiment], [`${e}/code.tar.gz`, said.experiment],
      [`${e}/again`, said.experiment], [w, said.workspace], [`${w}/members`, said.workspace], [`${w}/settings`, said.workspace], [`/groups/${said.group}`, said.group],
    ]) {
      const found = await get(there);
      assert.equal(found.status, 404, there);
      const nothing = await get(there.replace(String(id), String(none)));
      assert.equal(nothing.status, 404);
      assert.equal(blank(found.text, id), blank(nothing.text, none), `${there} looks like what is not there`);
      assert(!found.text.includes("onerror"), `${there} tells no name`);
    }
    assert.equal((await get(`${w}/projects/${said.project}`)).status, 404);

    /** All that could change. */
    const picture = async () => {
      const asked = ["/workspaces?all=true", `/workspaces/${said.workspace}/projects?all=true`, "/users", "/groups", `/groups/${said.group}`, "/roles", "/assignments?limit=1000", "/access/requests?all=true"];
      const parts = await Promise.all(asked.map((where) => world.api("admin", "GET", where)));
      const shown = await world.api("admin", "GET", `/experiments/${said.experiment}`);
      const it = shown.experiment ?? shown;
      const keys = await world.api("ana", "GET", "/tokens");
      return JSON.stringify([parts, it.name, it.state, it.workspace, it.project, keys], (key, value) => (["last_seen_at", "last_used_at", "experiments"].includes(key) ? undefined : value));
    };
    const assignment = (await world.api("admin", "GET", `/assignments?on=workspace:${said.workspace}`)).items.find((one) => one.group).id;
    const token = (await world.api("ana", "GET", "/tokens")).items[0].id;
    const admins = (await world.api("admin", "GET", "/me")).user.id;
    const sure = { sure: "yes", force: "yes" };
    const forms = [
      ...["cancel", "kill", "archive", "delete"].map((act) => [e, { act }]),
      [e, { act: "move", workspace: "default", project: "default" }], [e, { act: "share", kind: "user", who: "mal", role: "Reader" }], [`${e}/again`, { config: "entrypoint: python3 train.py" }],
      ["/experiments", { act: "cancel", ids: String(said.experiment) }], [`/experiments/${mine}`, { act: "unshare", assignment }], [`/experiments/${mine}`, { act: "move", workspace: String(said.workspace), project: String(said.project) }],
      ["/workspaces", { act: "create", name: "taken" }], [w, { act: "create", name: "taken" }], [`${w}/members`, { act: "add", kind: "user", who: "mal", role: "Viewer" }], [`${w}/members`, { act: "remove", assignment }],
      [`${w}/members`, { act: "change", assignment, role: "Viewer" }], ...["change", "archive", "delete"].map((act) => [`${w}/settings`, { act, name: "taken" }]),
      ...["rename", "archive", "delete"].map((act) => [`${w}/projects/${said.project}`, { act, name: "taken" }]), [`${w}/projects/${said.project}`, { act: "remove", assignment }],
      ["/users", { act: "invite", name: "taken" }], ["/users", { act: "deactivate", ids: String(said.user) }],
      ...["name", "remote-on", "deactivate", "link", "remove"].map((act) => [`/users/${said.user}`, { act, name: "taken", display_name: "taken", ...sure }]),
      [`/users/${admins}`, { act: "link" }], [`/users/${said.user}`, { act: "take", assignment }], [`/users/${said.user}`, { act: "give", role: "Viewer", on: "installation" }], ["/service-accounts", { act: "create", name: "taken" }],
      ["/groups", { act: "create", name: "taken" }], ...["add", "out", "change", "delete"].map((act) => [`/groups/${said.group}`, { act, users: act === "out" ? String(said.user) : "mal", name: "taken", ...sure }]),
      [`/groups/${said.group}`, { act: "give", role: "Viewer", on: "installation" }], [`/groups/${said.group}`, { act: "take", assignment }], ["/roles", { act: "create", name: "taken" }],
      ...["change", "delete"].map((act) => [`/roles/${said.role}`, { act, name: "taken", ...sure }]), [`/roles/${said.role}`, { act: "take", assignment }], ["/assignments", { act: "give", user: "mal", role: "ClusterAdmin", on: "installation" }],
      ["/assignments", { act: "take", assignment }], ["/assignments", { act: "change", assignment, until: "7d" }], ["/settings/tokens", { act: "revoke", token }], ["/settings/sessions", { act: "revoke", token }],
      ...["approve", "decline", "withdraw"].map((act) => ["/access/requests", { act, request: said.request }]), ["/access/shadow", { act: "clear" }], ["/access/requests", { act: "break-glass", why: "x", password: world.password("mal") }],
    ];
    const send = (where, fields) =>
      page.evaluate(
        async ([where, fields]) => {
          const form_token = document.querySelector("input[name=form_token]").value;
          const answer = await fetch(where, { method: "POST", body: new URLSearchParams({ form_token, ...fields }) });
          return { status: answer.redirected ? `redirected to ${answer.url}` : answer.status, text: await answer.text() };
        },
        [where, fields],
      );
    const before = await picture();
    for (const [where, fields] of forms) {
      const what = `POST ${where} ${JSON.stringify(fields)}`;
      const given = await send(where, fields);
      assert([403, 404, 409, 422].includes(given.status), `${what}: ${given.status}`);
      // Users and roles are seen by everybody; of the rest one does not learn whether it is there.
      if (/^.(users|roles)/.test(where)) continue;
      const elsewhere = (field) => (["assignment", "ids", "token", "request"].includes(field) ? { [field]: none } : {});
      const twin = await send(where.replace(/^(.(experiments|workspaces|groups).)\d+/, (all, start) => (all === `${start}${mine}` ? all : start + none)).replace(/projects.\d+/, `projects/${none}`), {
        ...fields,
        ...Object.assign({}, ...Object.keys(fields).map(elsewhere)),
      });
      const words = ({ status, text }) => `${status} ${text.replace(/^[^]*<main/, "").replace(/<[^>]*>/g, " ").replace(/request +[0-9a-f]{16}/, "").replace(/\d+/g, "N")}`;
      assert.equal(words(given), words(twin), `${what} is answered as for what is not there`);
    }
    assert.equal(await picture(), before, "nothing has changed");
    assert.equal((await world.asked("GET", "/api/v1/me", undefined, await world.session("ana"))).user.name, "ana", "ana's session goes on");
    await world.api("admin", "PATCH", `/groups/${said.group}`, { description: "changed" });
    assert.notEqual(await picture(), before, "a change would be seen");
  });
}
