// A small company at work, so that pages have something to show.

const train = (name, epochs, pause, more = "") => `import math, random, time
random.seed(${epochs})
print("loading 48,211 pictures from the crossing cameras", flush=True)
print("model: ${name}, 1.9 M parameters; device: cpu", flush=True)
for epoch in range(1, ${epochs} + 1):
    loss = 2.1 * math.exp(-epoch / 7) + random.uniform(0, 0.05)
    right = 1 - 0.45 * math.exp(-epoch / 9) - random.uniform(0, 0.01)
    print(f"epoch {epoch:3d}/${epochs}  loss {loss:.4f}  accuracy {right:.4f}", flush=True)
    time.sleep(${pause})
${more}
`;
const breaks = `import sys
batches = {"a": [1, 2]}
print("not enough memory for the batch", file=sys.stderr, flush=True)
batches["b"]
`;
const yaml = (entrypoint, more = "") => `description: which light is on, seen from the stop line
labels: [crossing, camera]
entrypoint: python3 ${entrypoint}
hyperparameters:
  learning_rate: 0.003
  batch_size: 64
${more}`;
const project = (code, more) => ({
  "experiment.yaml": yaml("train.py", more),
  "train.py": code,
  "README.md": "# Which light is on\n\nTrained on pictures of the crossing cameras; see train.py.\n",
});

/** Fills a world; the numbers of what a page needs for its address. */
export async function fill(world) {
  const people = { ana: "Ana Lima", ben: "Ben Okafor", mia: "Mia Chen", tom: "Tom Berg", vic: "Victor Hugo Sanz" };
  for (const [name, display_name] of Object.entries(people)) await world.user(name, { display_name });
  await world.ml("admin", "user", "create", "eva", "--display-name", "Eva Novak");
  await world.user("max");
  await world.ml("admin", "user", "deactivate", "max");
  await world.user("new");
  await world.ml("admin", "service-account", "create", "machine-7", "--serve", "default");
  const admin = (...args) => world.ml("admin", ...args);
  await admin("workspace", "create", "Traffic Lights", "--description", "Which light is on, and for whom");
  await admin("workspace", "create", "Speech", "--description", "Announcements that are understood on a noisy platform");
  await admin("workspace", "create", "Old", "--description", "Trials of last year");
  await admin("workspace", "archive", "Old");
  await admin("project", "create", "Traffic Lights", "Green", "--description", "Only the green ones");
  await admin("project", "create", "Traffic Lights", "Night");
  await admin("group", "create", "Vision Team", "--description", "Everything with a camera", "--add-user", "ana", "--add-user", "ben");
  await admin("role", "create", "Reviewer", "-p", "jobs:read", "-p", "experiments:read", "-p", "experiments:edit", "--description", "Reads all, and writes notes");
  await admin("role", "assign", "Editor", "--group", "Vision Team", "-w", "Traffic Lights", "--reason", "their workspace");
  await admin("role", "assign", "WorkspaceAdmin", "--user", "ana", "-w", "Traffic Lights");
  await admin("role", "assign", "Reviewer", "--user", "mia", "-w", "Traffic Lights", "--until", "30d", "--reason", "the audit of spring");
  await admin("role", "assign", "Viewer", "--user", "tom", "-w", "Traffic Lights", "--project", "Green", "--until", "7d");
  await admin("role", "assign", "Editor", "--user", "mia", "-w", "Speech");
  await admin("role", "assign", "TokenCreator", "--user", "ana");
  for (const name of ["ana", "ben", "mia"]) await world.login(name);
  const to = (workspace, name) => ["--workspace", workspace, "--project", name];
  const ids = {};
  // A week's work, to fill a page.
  const more = [["ana", "Green", "lights-tiny"], ["ben", "Night", "night-flash"], ["ana", "Green", "lights-augmented"], ["ben", "default", "signs-baseline"], ["ana", "Night", "night-denoised"], ["ben", "Green", "green-arrows-left"]];
  const runs = await Promise.all(more.map(([who, where, name]) => world.run(who, project(train(name, 6, 0.02, name === "night-flash" ? breaks : "")), "--name", name, ...to("Traffic Lights", where))));
  await Promise.all(runs.map((id) => world.became(id, "COMPLETED", "ERROR")));
  ids.ended = await world.run("ana", project(train("lights-small", 40, 0.02)), "--name", "lights-small", ...to("Traffic Lights", "Green"));
  ids.failed = await world.run("ben", project(train("night", 3, 0.02, breaks)), "--name", "night-camera", ...to("Traffic Lights", "Night"));
  ids.others = await world.run("mia", project(train("platform-words", 12, 0.02)), "--name", "platform-words", ...to("Speech", "default"));
  await Promise.all([world.became(ids.ended, "COMPLETED"), world.became(ids.failed, "ERROR"), world.became(ids.others, "COMPLETED")]);
  const canceled = await world.run("ben", project(train("green-arrows", 4000, 0.5)), "--name", "green-arrows", ...to("Traffic Lights", "Green"));
  await world.became(canceled, "RUNNING");
  await world.ml("ben", "cancel", String(canceled));
  ids.running = await world.run("ana", project(train("lights-large", 4000, 0.5)), "--name", "lights-large", "--slots", "3", ...to("Traffic Lights", "Green"));
  await world.became(canceled, "CANCELED");
  await world.became(ids.running, "RUNNING");
  await world.ml("ana", "experiment", "report-progress", "0.42", String(ids.running));
  ids.queued = await world.run("ben", project(train("lights-huge", 10, 0.1)), "--name", "lights-huge", "--slots", "4", ...to("Traffic Lights", "default"));
  await world.ml("ana", "token", "create", "--label", "nightly pipeline", "--expires", "30d");
  await world.ml("ana", "token", "create", "--label", "laptop", "-p", "experiments:read", "--workspace", "Traffic Lights");
  await world.ml("ana", "access", "request", "Editor", "-w", "Speech", "--for", "8h", "--why", "the night run fails, and mia is away");
  await world.ml("ben", "access", "request", "Viewer", "-w", "Speech", "--for", "7d", "--why", "to compare the two models");
  const { items } = await world.api("admin", "GET", "/access/requests");
  const bens = items.find((one) => one.user === "ben");
  await world.ml("admin", "access", "decline", String(bens.id), "--why", "ask mia for the numbers");
  await world.ml("ben", "cancel", String(ids.ended)).catch(() => {});
  await world.ml("mia", "workspace", "create", "Mine alone").catch(() => {});

  const named = async (where, name) => (await world.api("admin", "GET", where)).items.find((one) => one.name === name).id;
  ids.workspace = await named("/workspaces", "Traffic Lights");
  ids.speech = await named("/workspaces", "Speech");
  ids.project = await named(`/workspaces/${ids.workspace}/projects`, "Green");
  ids.group = await named("/groups", "Vision Team");
  ids.role = await named("/roles", "Reviewer");
  ids.user = await named("/users", "ana");
  ids.service = await named("/service-accounts", "machine-7");
  await world.ml("ana", "stack", "register", "lights", "--queue", "default", "--env", "CAMERA=north");
  await world.ml("ana", "stack", "share", "lights", "--user", "ben");
  const text = "environment:\n  HTTPS_PROXY: http://proxy:3128\nsdk:\n  log: {level: info}\n";
  ids.vault = (await world.api("ana", "POST", "/vaults", { format: "yaml", text })).id;
  await world.api("admin", "POST", "/vaults", { organisation: true, name: "house", format: "yaml", text });
  await world.ml("ana", "model", "register", "lights", "-w", "Traffic Lights", "--description", "tells red from green");
  await world.ml("ana", "model", "register-version", "Traffic Lights/lights", "--experiment", String(ids.ended), "--uri", "s3://models/lights/1");
  await world.ml("ana", "model", "register-version", "Traffic Lights/lights", "--uri", "s3://models/lights/2", "--description", "with images of the night");
  await world.ml("admin", "model", "share", "Traffic Lights/lights", "--user", "mia");
  ids.model = (await world.api("ana", "GET", "/models")).items[0].id;
  ids.stack = (await world.api("ana", "GET", "/stacks")).items[0].id;
  ids.assignment = (await world.api("admin", "GET", `/assignments?on=workspace:${ids.workspace}`)).items.find((one) => one.user === "mia").id;
  return ids;
}
