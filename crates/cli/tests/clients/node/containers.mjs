// Running containers: what they print, commands inside of them, and their ports.
import { once } from 'node:events';
import { PassThrough, Readable } from 'node:stream';
import * as k8s from '@kubernetes/client-node';
import { FIRST_POD_WAIT_MS, config, core, done, eventually, namespace, refused, show, step } from './_steps.mjs';

const ns = await namespace('node-containers');
const talk = 'echo first; sleep 1; echo second >&2; sleep 1; echo third; cd /tmp; exec python3 -m http.server 8000';
await core.createNamespacedPod({
  namespace: ns,
  body: {
    metadata: { name: 'talker' },
    spec: {
      terminationGracePeriodSeconds: 1,
      containers: [
        {
          name: 'main',
          image: 'fermion.dev/base:latest',
          command: ['bash', '-c', talk],
          readinessProbe: { tcpSocket: { port: 8000 }, periodSeconds: 1 },
        },
      ],
    },
  },
});
const isReady = async () => {
  const { status } = await core.readNamespacedPod({ namespace: ns, name: 'talker' });
  return (status.conditions ?? []).some((condition) => condition.type === 'Ready' && condition.status === 'True');
};
await eventually('the pod to be ready', isReady, FIRST_POD_WAIT_MS);

/** A stream that keeps what is written to it. */
function kept() {
  const stream = new PassThrough();
  stream.text = '';
  stream.on('data', (part) => (stream.text += part));
  return stream;
}

/** Runs a command, and answers what it printed and how it ended. */
async function run(command, stdin = null) {
  const [out, err] = [kept(), kept()];
  const status = await new Promise((resolve, reject) => {
    new k8s.Exec(config).exec(ns, 'talker', 'main', command, out, err, stdin, false, resolve).catch(reject);
  });
  return { status, out: out.text, err: err.text };
}

step('a log');
show(await core.readNamespacedPodLog({ namespace: ns, name: 'talker' }));
step('the end of a log');
show(await core.readNamespacedPodLog({ namespace: ns, name: 'talker', container: 'main', tailLines: 1 }));
step('a log of what is not there');
await refused(() => core.readNamespacedPodLog({ namespace: ns, name: 'talker', container: 'other' }));
await refused(() => core.readNamespacedPodLog({ namespace: ns, name: 'nobody' }));
step('a log as a stream');
const whole = kept();
await new k8s.Log(config).log(ns, 'talker', 'main', whole, { tailLines: 2 });
await once(whole, 'end');
show(whole.text);
step('a log is followed');
const followed = kept();
const following = await new k8s.Log(config).log(ns, 'talker', 'main', followed, { follow: true });
await eventually('what is there', () => followed.text.includes('third'));
await run(['sh', '-c', 'echo fourth > /proc/1/fd/1']);
await eventually('what comes', () => followed.text.includes('fourth'));
show(followed.text);
following.abort();

step('a command');
show(await run(['echo', 'out']));
step('a command with arguments as they are');
show((await run(['printf', '%s|', 'a b', '$HOME', 'ü', '\'"'])).out);
step('a command and its errors');
const both = await run(['sh', '-c', 'echo out; echo err >&2']);
show([both.out, both.err]);
step('a command that fails');
const failed = await run(['sh', '-c', 'exit 7']);
show([failed.status.status, failed.status.reason, failed.status.details.causes]);
step('a command that cannot be started');
show((await run(['no-such-program'])).status.status);
step('a command that reads to the end');
show((await run(['sh', '-c', 'cat; echo end'], Readable.from([Buffer.from('something\n')]))).out);
step('a megabyte');
show((await run(['sh', '-c', "head -c 1000000 /dev/zero | tr '\\0' x"])).out.length);

step('a port');
const answer = kept();
const request = new PassThrough();
const forwarding = await new k8s.PortForward(config).portForward(ns, 'talker', [8000], answer, kept(), request);
request.write('GET / HTTP/1.0\r\n\r\n');
await eventually('an answer', () => answer.text.includes('</html>'));
show(answer.text.split('\r\n')[0]);
forwarding.close();

await core.deleteNamespacedPod({ namespace: ns, name: 'talker' });
await done(ns);
// What followed the log would keep the process for a while.
process.exit(0);
