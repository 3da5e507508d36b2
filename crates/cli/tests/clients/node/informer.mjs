// Informers and watches: a cache that follows the server, also across a connection that breaks.
import * as k8s from '@kubernetes/client-node';
import { config, core, done, eventually, namespace, show, step } from './_steps.mjs';

const ns = await namespace('node-informer');
const path = `/api/v1/namespaces/${ns}/configmaps`;
const make = (name, labels) => core.createNamespacedConfigMap({ namespace: ns, body: { metadata: { name, labels } } });

await make('one');
await make('two');

step('an informer lists, then follows');
const told = [];
const informer = k8s.makeInformer(config, path, () => core.listNamespacedConfigMap({ namespace: ns }));
for (const event of ['add', 'update', 'delete']) {
  informer.on(event, (object) => told.push(`${event} ${object.metadata.name}`));
}
let connections = 0;
informer.on('connect', () => (connections += 1));
await informer.start();
await eventually('both to be told', () => told.length >= 2);
show(told.splice(0).sort());
await make('three');
await core.patchNamespacedConfigMap(
  { namespace: ns, name: 'three', body: { data: { a: '1' } } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
);
await core.deleteNamespacedConfigMap({ namespace: ns, name: 'three' });
await eventually('the deletion to be told', () => told.includes('delete three'));
show(told.splice(0));
step('its cache is what is there');
show(informer.list().map((object) => object.metadata.name).sort());
step('it goes on where it was after a break');
await informer.stop();
await make('four');
await informer.start();
await eventually('what happened meanwhile', () => informer.get('four', ns));
show(informer.list().map((object) => object.metadata.name).sort());
show(connections >= 2);
await informer.stop();

step('an informer by label');
const labelled = [];
const picky = k8s.makeInformer(config, path, () => core.listNamespacedConfigMap({ namespace: ns, labelSelector: 'visible=yes' }), 'visible=yes');
picky.on('add', (object) => labelled.push(`add ${object.metadata.name}`));
picky.on('delete', (object) => labelled.push(`delete ${object.metadata.name}`));
await picky.start();
await make('hidden', { visible: 'no' });
await make('shown', { visible: 'yes' });
await eventually('it to come into view', () => labelled.includes('add shown'));
await core.patchNamespacedConfigMap(
  { namespace: ns, name: 'shown', body: { metadata: { labels: { visible: 'no' } } } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
);
await eventually('it to leave', () => labelled.includes('delete shown'));
show(labelled);
await picky.stop();

step('a watch by hand, from a version');
const since = (await core.listNamespacedConfigMap({ namespace: ns })).metadata.resourceVersion;
await make('five');
const seen = await new Promise((resolve, reject) => {
  const watching = new k8s.Watch(config);
  let aborter;
  watching
    .watch(
      path,
      { resourceVersion: since, allowWatchBookmarks: true },
      (type, object) => {
        resolve([type, object.metadata.name]);
        aborter?.abort();
      },
      (error) => error && error.name !== 'AbortError' && reject(error),
    )
    .then((found) => (aborter = found));
});
show(seen);
step('a watch of a version that is gone ends with an error');
const gone = await new Promise((resolve) => {
  const watching = new k8s.Watch(config);
  const events = [];
  watching.watch(
    path,
    { resourceVersion: '1', timeoutSeconds: 2 },
    (type, object) => events.push(type === 'ERROR' ? [type, object.code] : [type]),
    (error) => resolve([...new Set(events.map((event) => event.join(' ')).concat(error?.statusCode ? [`refused ${error.statusCode}`] : []))]),
  );
});
show(gone);

await done(ns);
// The informers' last connections would keep the process for a while.
process.exit(0);
