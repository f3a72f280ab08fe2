// The administrator's desk, and somebody else at another browser who sees what it does.

import assert from "node:assert/strict";
import { act, forms, signIn, until } from "../harness.js";

export const title = "invite, group, workspace, role, an explained refusal, and a removal that ends the open tab";

export default async function (story) {
  const { world } = story;
  const page = await story.open();
  page.answers = true;

  await story.step("the administrator signs in", async () => {
    page.expected.add(401).add(422);
    await signIn(page, "admin", "a password that is wrong");
    await page.locator("#problem").waitFor();
    assert.equal(await page.getByLabel("Name").inputValue(), "admin", "the name stays");
    await page.getByLabel("Password").fill(world.password("admin"));
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL(`${world.url}/`);
    page.expected.clear();
  });

  const link = await story.step("invites a user in the page", async () => {
    await page.locator(".top").getByRole("link", { name: "Users" }).click();
    await page.getByLabel("Name to sign in with").fill("ben");
    await page.getByLabel(/^Display name/).fill("Ben Okafor");
    await act(page, "invite").click();
    await page.locator("#main pre", { hasText: "mll_" }).first().waitFor();
    await story.shot(page, "1-invited");
    const link = /http\S+#mll_\S+/.exec(await page.locator("main").innerText())[0];
    assert(!page.url().includes("mll_"), "the link is not in the address");
    await page.goto("/users");
    await page.locator("tr", { hasText: "ben" }).getByText("pending").waitFor();
    return link;
  });

  const ben = await story.open();
  await story.step("who comes in at another browser", async () => {
    await ben.goto(link);
    await ben.getByLabel("New password", { exact: true }).fill(world.password("ben"));
    await ben.getByLabel(/again$/).fill(world.password("ben"));
    await ben.getByRole("button", { name: /sign in/i }).click();
    await ben.waitForURL(`${world.url}/`);
    await page.reload();
    await page.locator("tr", { hasText: "ben" }).getByText("active").waitFor();
    await ben.getByRole("link", { name: "Workspaces" }).click();
    assert.equal(await ben.getByText("Stop Signs").count(), 0);
  });

  await story.step("makes a group and puts the user in", async () => {
    await page.locator(".top").getByRole("link", { name: "Groups" }).click();
    await forms(page).getByLabel("Name", { exact: true }).fill("Vision Team");
    await act(page, "create").click();
    await page.getByRole("heading", { name: "Vision Team" }).or(page.getByRole("link", { name: "Vision Team" })).first().waitFor();
    if (new URL(page.url()).pathname === "/groups") await page.getByRole("link", { name: "Vision Team" }).click();
    const names = page.getByLabel(/^Names/);
    await names.pressSequentially("be");
    await until("the name is suggested", () => page.locator("#people option[value=ben]").count());
    await names.fill("ben");
    await act(page, "add").click();
    await page.getByRole("region", { name: "Members" }).getByRole("link", { name: "ben" }).waitFor();
    await story.shot(page, "2-group");
  });

  await story.step("makes a workspace and gives the group a role there", async () => {
    await page.getByRole("link", { name: "Workspaces" }).click();
    await forms(page).getByLabel("Name", { exact: true }).fill("Stop Signs");
    await act(page, "create").click();
    await page.getByRole("heading", { name: "Stop Signs" }).waitFor();
    await page.getByRole("link", { name: "Members" }).click();
    await page.getByLabel(/^Wh(om|at)/).selectOption("group");
    await forms(page).getByLabel(/^Name/).fill("Vision Team");
    await page.getByLabel("Role", { exact: true }).selectOption("Viewer");
    await page.getByLabel(/^Until/).fill("7d");
    await act(page, "add").click();
    const row = page.getByRole("region", { name: "Members" }).getByRole("row", { name: /Vision Team/ });
    await row.waitFor();
    assert.match(await row.innerText(), /here/);
    await story.shot(page, "3-members");
  });

  await story.step("the user sees it at the next click", async () => {
    await ben.getByRole("link", { name: "Workspaces" }).click();
    await ben.getByRole("link", { name: "Stop Signs" }).click();
    await ben.getByRole("heading", { name: "Stop Signs" }).waitFor();
    assert.equal(await ben.getByRole("button", { name: /make project/i }).count(), 0, "a Viewer is offered nothing to make");
  });

  const explain = async (permission) => {
    await page.getByLabel("Who", { exact: true }).fill("ben");
    await page.getByLabel("What", { exact: true }).fill(permission);
    await page.getByLabel("Where", { exact: true }).fill("workspace:Stop Signs");
    await page.getByRole("button", { name: "Explain" }).click();
    return page.locator(".answer").innerText();
  };
  await story.step("explains what is allowed, and a refusal", async () => {
    await page.getByRole("link", { name: "Access" }).click();
    const yes = await explain("experiments:read");
    assert.match(yes, /Yes/);
    assert.match(yes, /Vision Team/);
    assert.match(yes, /Viewer/);
    const no = await explain("workspaces:delete");
    assert.match(no, /No/);
    assert.match(no, /WorkspaceAdmin|could give/i);
    await story.shot(page, "4-refusal");
  });

  await story.step("removes the user, whose open tab stops at the next click", async () => {
    await page.locator(".top").getByRole("link", { name: "Users" }).click();
    await page.getByRole("link", { name: "ben", exact: true }).click();
    await page.getByLabel("I am sure").check();
    await act(page, "remove").click();
    await page.waitForURL((url) => url.pathname === "/users" || /removed/.test(url.search));
    ben.expected.add(401).add(422);
    await ben.getByRole("link", { name: "Experiments" }).first().click();
    await ben.waitForURL((url) => url.pathname === "/sign-in");
    await ben.getByLabel("Name").fill("ben");
    await ben.getByLabel("Password").fill(world.password("ben"));
    await ben.getByRole("button", { name: "Sign in" }).click();
    await ben.locator("#problem").waitFor();
    await story.shot(ben, "5-removed");
    await page.getByRole("link", { name: "Audit" }).click();
    await page.locator("tbody tr", { hasText: "ben" }).first().waitFor();
  });
}
