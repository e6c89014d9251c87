// Node's global fetch, as the official SDK uses it: every task at once, or so many at a time.
// node peers.mjs submit <url> <n> <concurrency>      prints {"wall_s", "cpu_s", "peak_bytes"}
// node peers.mjs pipeline <url> <n>                  the same, with the SDK's polling constants

const FAST_PHASE_MS = 12_000, FAST_MS = 2_500, SLOW_MS = 5_000, JITTER_MS = 500, BUDGET_MS = 300_000;
const headers = { authorization: "Bearer mak_benchmark", "content-type": "application/json" };
const [what, url, n, concurrency] = [process.argv[2], process.argv[3], +process.argv[4], +process.argv[5]];

const bodyOf = (number) => JSON.stringify({
  prompt: `a watercolour of lighthouse ${number}, soft morning light, wide angle`,
  model: "m/benchmark", size: "landscape", count: 1,
  output: { format: "webp", quality: 80 }, access: { pat: { enabled: false } },
  metadata: { mynth_dagster: `int_${String(number).padStart(26, "0")}.0123456789ab.led_0123456789ab` },
});

async function post(number) {
  const answer = await fetch(`${url}/image/generate`, { method: "POST", headers, body: bodyOf(number) });
  const id = (await answer.json()).data.task_id;
  if (!id) throw new Error("no task id");
  return id;
}

async function get(path) {
  return (await (await fetch(url + path, { headers })).json()).data;
}

async function wait(id) {
  const began = Date.now();
  for (;;) {
    const elapsed = Date.now() - began;
    if (elapsed >= BUDGET_MS) throw new Error("timeout");
    if ((await get(`/tasks/${id}/status`)).status === "completed") return get(`/tasks/${id}`);
    const base = elapsed < FAST_PHASE_MS ? FAST_MS : SLOW_MS;
    await new Promise((over) => setTimeout(over, base + Math.random() * JITTER_MS));
  }
}

const began = process.hrtime.bigint();
if (what === "submit") {
  let next = 0;
  await Promise.all(Array.from({ length: concurrency }, async () => {
    while (next < n) await post(next++);
  }));
} else {
  await Promise.all(Array.from({ length: n }, async (_, number) => wait(await post(number))));
}
const wall_s = Number(process.hrtime.bigint() - began) / 1e9;
const { user, system } = process.cpuUsage();
console.log(JSON.stringify({
  wall_s, cpu_s: (user + system) / 1e6, peak_bytes: process.resourceUsage().maxRSS * 1024,
}));
