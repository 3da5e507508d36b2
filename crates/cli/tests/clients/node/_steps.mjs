// What the scripts of this folder share: steps, and how refusals and values are shown.
import * as k8s from '@kubernetes/client-node';

const WAIT_MS = 60_000;
/** How long the first pod of a platform may take: its image is built before. */
export const FIRST_POD_WAIT_MS = 180_000;

export const config = new k8s.KubeConfig();
config.loadFromDefault();
export const core = config.makeApiClient(k8s.CoreV1Api);

/** Begins a step; its title is unique in its script. */
export function step(title) {
  console.log(`\n### ${title}`);
}

/** Prints a value so that it reads the same every time. */
export function show(value) {
  const sorted = (_, part) =>
    part && typeof part === 'object' && !Array.isArray(part) && !(part instanceof Date)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part;
  console.log(typeof value === 'string' ? value : JSON.stringify(value, sorted));
}

/** Runs what must be refused, and shows the refusal. */
export async function refused(run) {
  try {
    await run();
  } catch (error) {
    if (error.code === undefined) throw error;
    const status = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
    console.log(`${error.code} ${status.reason} - ${status.message}`);
    return;
  }
  throw new Error('it was not refused');
}

/** Waits until `look` finds something, and answers it. */
export async function eventually(what, look, waitMs = WAIT_MS) {
  const end = Date.now() + waitMs;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** A namespace for this script alone. */
export async function namespace(name) {
  await core.createNamespace({ body: { metadata: { name } } });
  return name;
}

/** Takes the script's namespace away. */
export async function done(name) {
  await core.deleteNamespace({ name });
}
