// What the journeys share: a server with a home of its own, people on it, browsers that note whatever goes wrong in them, and pictures.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { createRequire } from "node:module";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import * as path from "node:path";

export const root = path.resolve(import.meta.dirname, "..");
// The packages are in the cache, beside the Python environments: nothing is installed into the tree.
const packages = createRequire(path.join(process.env.BROWSER_PACKAGES || root, "package.json"));
const { chromium } = packages("playwright-core");
const axe = fs.readFileSync(packages.resolve("axe-core/axe.min.js"), "utf8");
const program = path.resolve(process.env.ML_PROGRAM || path.join(root, "target/debug/ml"));
const pictures = path.join(root, "target/screenshots");

/** How long anything may take: two cores, a debug build, and tests beside it. */
const PATIENCE_MS = 20_000;

/** Asks again and again until the answer is something. */
export async function until(what, ask, patience = PATIENCE_MS) {
  const end = Date.now() + patience;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`waited ${patience / 1000} s in vain: ${what}`);
    await new Promise((done) => setTimeout(done, 40));
  }
}

const freePort = () =>
  new Promise((done, failed) => {
    const server = createServer().on("error", failed);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => done(port));
    });
  });

export function launch() {
  const executablePath = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find(fs.existsSync);
  assert(executablePath, "there is no Chromium; run: scripts/setup.sh test");
  const args = ["--disable-dev-shm-usage", "--disable-gpu"];
  const bare = () => chromium.launch({ executablePath, args: [...args, "--no-sandbox"] });
  // Its sandbox does not work for root, nor in containers that may not make user namespaces.
  return process.getuid() === 0 ? bare() : chromium.launch({ executablePath, args }).catch(bare);
}

/** A server in a fresh directory, with its built-in agent. */
export class World {
  passwords = new Map();
  sessions = new Map();
  foreign = [];

  static async start(...flags) {
    const world = new World();
    // Not below TMPDIR: jobs may run as another operating-system user, who must be able to come by.
    world.dir = fs.mkdtempSync("/tmp/bailiwick-browser.");
    fs.chmodSync(world.dir, 0o711);
    fs.mkdirSync(`${world.dir}/passwords`, { mode: 0o700 });
    world.origin = `127.0.0.1:${await freePort()}`;
    world.url = `http://${world.origin}`;
    world.password("admin");
    try {
      await world.serve(...flags);
      await world.login("admin");
    } catch (why) {
      await world.stop();
      throw why;
    }
    return world;
  }

  /** Starts the server, again on the same data. */
  async serve(...flags) {
    const log = fs.openSync(`${this.dir}/server.log`, "a");
    const given = ["serve", "--data", `${this.dir}/data`, "--listen", this.origin, "--admin-password-file", this.passwordFile("admin")];
    this.server = spawn(program, [...given, "--set", "agent.slots=4", ...flags], { stdio: ["ignore", log, log], env: this.env() });
    fs.closeSync(log);
    let ended = false;
    this.server.once("exit", () => (ended = true));
    this.over = () => ended;
    await until("the server starts", async () => {
      if (ended) throw new Error(`the server ended:\n${this.log()}`);
      return fetch(`${this.url}/readyz`).then((answer) => answer.ok, () => false);
    });
  }

  async halt() {
    this.server.kill("SIGTERM");
    await until("the server ends", () => this.over());
  }

  env() {
    const { ML_API_KEY, ML_SERVER, ML_USER, ...rest } = process.env;
    return { ...rest, ML_HOME: `${this.dir}/home` };
  }

  log = () => fs.readFileSync(`${this.dir}/server.log`, "utf8").slice(-4000);

  passwordFile = (name) => `${this.dir}/passwords/${name}`;

  password(name) {
    if (!this.passwords.has(name)) {
      const password = randomBytes(15).toString("base64url");
      this.passwords.set(name, password);
      fs.writeFileSync(this.passwordFile(name), password, { mode: 0o600 });
    }
    return this.passwords.get(name);
  }

  /** The command line, as one of those who have signed in; what it prints. */
  ml(user, ...args) {
    return new Promise((done, failed) => {
      const all = user ? ["-u", user, ...args] : args;
      execFile(program, all, { env: this.env(), timeout: 60_000 }, (why, stdout, stderr) => {
        if (why) failed(new Error(`ml ${all.join(" ")}: ${stderr}${stdout}`));
        else done(stdout + stderr);
      }).stdin.end();
    });
  }

  /** Signs in at the command line. */
  login(name) {
    return this.ml(null, "login", name, "--server", this.url, "--password-file", this.passwordFile(name));
  }

  /** A session of somebody, as a browser's cookie has it. */
  async session(name) {
    if (!this.sessions.has(name)) {
      const answer = await this.asked("POST", "/api/v1/login", { name, password: this.password(name) });
      this.sessions.set(name, answer.token);
    }
    return this.sessions.get(name);
  }

  async asked(method, where, body, token) {
    const headers = { "content-type": "application/json" };
    if (token) headers.authorization = `Bearer ${token}`;
    const answer = await fetch(this.url + where, { method, headers, body: body && JSON.stringify(body) });
    const text = await answer.text();
    assert(answer.ok, `${method} ${where}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : null;
  }

  /** The interface, as somebody. */
  async api(name, method, where, body) {
    return this.asked(method, `/api/v1${where}`, body, await this.session(name));
  }

  /** A user with a password. */
  async user(name, more = {}) {
    const made = await this.api("admin", "POST", "/users", { name, password: this.password(name), ...more });
    return made.user ?? made;
  }

  assign(role, holder, on, more = {}) {
    return this.api("admin", "POST", "/assignments", { assignments: [{ role, ...holder, on, ...more }] });
  }

  /** Submits an experiment made of these files; its number. */
  async run(user, files, ...args) {
    const dir = fs.mkdtempSync(`${this.dir}/code.`);
    for (const [name, text] of Object.entries(files)) fs.writeFileSync(`${dir}/${name}`, text);
    const said = await this.ml(user, "run", dir, "-o", "json", ...args);
    const number = /"id":\s*(\d+)/.exec(said);
    assert(number, `ml run said: ${said}`);
    return Number(number[1]);
  }

  /** Waits until an experiment is as wanted. */
  became(id, ...states) {
    return until(`experiment ${id} becomes ${states}`, async () => {
      const it = await this.api("admin", "GET", `/experiments/${id}`);
      return states.includes((it.experiment ?? it).state);
    }, 40_000);
  }

  /** A site of somebody else's: what it answers is what `pages` says. At 127.0.0.1 it is of the same site but another origin, at localhost of another site. */
  async site(pages) {
    const server = createServer((request, response) => {
      const page = pages[new URL(request.url, "http://x").pathname];
      response.writeHead(page ? 200 : 404, { "content-type": "text/html; charset=utf-8", ...page?.headers });
      response.end(page?.html ?? page ?? "");
    });
    await new Promise((done) => server.listen(0, "127.0.0.1", done));
    this.foreign.push(server);
    return server.address().port;
  }

  async stop() {
    for (const server of this.foreign) {
      server.closeAllConnections();
      server.close();
    }
    // Jobs outlive a server that ends, as they should; here they go first.
    const data = `${this.dir}/data/agent/jobs`;
    const locks = () => (fs.existsSync(data) ? fs.readdirSync(data).map((job) => `${data}/${job}/shim.lock`).filter(fs.existsSync) : []);
    if (!this.over()) {
      for (const state of ["QUEUED", "STARTING", "RUNNING", "STOPPING"]) {
        const left = await this.api("admin", "GET", `/experiments?state=${state}&limit=200`).catch(() => ({ items: [] }));
        await Promise.all(left.items.map(({ id }) => this.api("admin", "POST", `/experiments/${id}/kill`, {}).catch(() => {})));
      }
      await until("the jobs end", () => locks().length === 0, 10_000).catch(() => {});
      this.server.kill("SIGTERM");
      await until("the server ends", () => this.over(), 10_000).catch(() => this.server.kill("SIGKILL"));
    }
    for (const lock of locks()) {
      const supervisor = Number(fs.readFileSync(lock, "utf8"));
      if (supervisor) try { process.kill(supervisor, "SIGKILL"); } catch { /* it has ended */ }
    }
    fs.rmSync(this.dir, { recursive: true, force: true });
  }
}

/** One journey on its way: its world, its browsers, and what went wrong that nobody was waiting for. */
export class Story {
  wrong = [];
  contexts = [];
  asked = [];

  constructor(name, browser, world) {
    Object.assign(this, { name, browser, world });
    this.pictures = path.join(pictures, name);
    fs.rmSync(this.pictures, { recursive: true, force: true });
    fs.mkdirSync(this.pictures, { recursive: true });
  }

  /** A browser of its own: nothing is shared with any other. `as`: somebody who has signed in there. */
  async context({ as, ...options } = {}) {
    const context = await this.browser.newContext({ baseURL: this.world.url, viewport: { width: 1440, height: 900 }, ...options });
    context.setDefaultTimeout(PATIENCE_MS);
    this.contexts.push(context);
    if (as) await context.addCookies([{ name: "ml_session", value: await this.world.session(as), url: this.world.url }]);
    context.on("page", (page) => this.watch(page));
    return context;
  }

  /** A page in a browser of its own. */
  async open(options) {
    return (await this.context(options)).newPage();
  }

  /** Notes what a page must never do. `page.expected`: statuses that are wanted; `page.answers`: what to say when it asks first. */
  watch(page) {
    page.expected = new Set();
    page.marks = [];
    const note = (what) => {
      page.marks.push(what);
      if (!page.mayFail) this.wrong.push(`${page.url()}: ${what}`);
    };
    page.on("console", (message) => {
      if (message.type() !== "error") return;
      const status = /the server responded with a status of (\d+)/.exec(message.text());
      if (status && page.expected.has(Number(status[1]))) return;
      note(`console: ${message.text()}`);
    });
    page.on("pageerror", (why) => note(`script: ${why.message}`));
    page.on("request", (request) => {
      const url = request.url();
      if (!url.startsWith(`${this.world.url}/`) && !url.startsWith("data:") && !url.startsWith("blob:")) note(`asked elsewhere: ${url}`);
    });
    page.on("response", (response) => {
      if (response.status() >= 500) note(`${response.status()} from ${response.url()}`);
    });
    page.on("dialog", (dialog) => {
      this.asked.push(dialog.message());
      if (page.answers) return dialog.accept();
      note(`dialog: ${dialog.message()}`);
      return dialog.dismiss();
    });
  }

  /** Tells one part of the story. */
  async step(title, tell) {
    const began = Date.now();
    this.at = title;
    const result = await tell();
    assert.deepEqual(this.wrong, [], `what went wrong on the way, in: ${title}`);
    console.log(`   ${this.name}: ${title} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    return result;
  }

  shot(page, name, options = {}) {
    return page.screenshot({ path: path.join(this.pictures, `${name}.png`), animations: "disabled", ...options });
  }

  /** What axe has to say against a page as it is now; `only`: by rules of this kind alone. */
  async violations(page, only) {
    if ((await page.evaluate("typeof axe")) === "undefined") await page.evaluate(axe);
    const options = { resultTypes: ["violations"], ...(only && { runOnly: [only] }) };
    const found = await page.evaluate((options) => globalThis.axe.run(document, options), options);
    return found.violations.map((one) => `${one.id} (${one.help}): ${one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200)).join(" | ")}`);
  }

  /** Pictures of how it looked when it went wrong. */
  async failed() {
    let number = 0;
    for (const context of this.contexts) {
      for (const page of context.pages()) {
        number += 1;
        await this.shot(page, `FAILED-${number}`).catch(() => {});
        console.error(`   ${this.name}: ${page.url()} looked so: ${path.relative(root, path.join(this.pictures, `FAILED-${number}.png`))}`);
      }
    }
  }

  async end() {
    await Promise.all(this.contexts.map((context) => context.close()));
  }
}

/** The forms of a page that change something; the others filter. */
export const forms = (page) => page.locator("main form[method=post]");

/** The button that does something, whatever it is called at present. */
export const act = (page, what) => page.locator(`main button[name=act][value="${what}"]`);

/** Signs in by the form. */
export async function signIn(page, name, password) {
  await page.goto("/sign-in");
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
}
