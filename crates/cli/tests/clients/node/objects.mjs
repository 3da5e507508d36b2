// KubernetesObjectApi: objects of any kind, found by discovery.
import * as k8s from '@kubernetes/client-node';
import { config, done, eventually, namespace, refused, show, step } from './_steps.mjs';

const ns = await namespace('node-objects');
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
const map = (name, data) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name, namespace: ns }, data });

step('create');
const made = await objects.create(map('settings', { color: 'blue' }));
show([made.kind, made.data]);
step('read');
show((await objects.read({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'settings', namespace: ns } })).data);
step('list');
show((await objects.list('v1', 'ConfigMap', ns)).items.map((item) => item.metadata.name));
step('patch, strategic by default');
show((await objects.patch(map('settings', { size: '3' }))).data);
step('patch, merge');
show((await objects.patch(map('settings', { size: null }), undefined, undefined, undefined, undefined, k8s.PatchStrategy.MergePatch)).data);
step('apply');
show(
  (await objects.patch(map('applied', { a: '1' }), undefined, undefined, 'node', undefined, k8s.PatchStrategy.ServerSideApply)).data,
);
step('replace');
const current = await objects.read(made);
current.data = { replaced: 'yes' };
show((await objects.replace(current)).data);
step('replace of an old version');
await refused(() => objects.replace({ ...made, data: {} }));
step('delete');
show((await objects.delete(made)).status);
step('read of what is not there');
await refused(() => objects.read(made));

step('a kind of its own');
await objects.create({
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'kites.node.example.org' },
  spec: {
    group: 'node.example.org',
    scope: 'Namespaced',
    names: { plural: 'kites', singular: 'kite', kind: 'Kite' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        schema: { openAPIV3Schema: { type: 'object', properties: { spec: { type: 'object', properties: { color: { type: 'string' } } } } } },
      },
    ],
  },
});
const kite = { apiVersion: 'node.example.org/v1', kind: 'Kite', metadata: { name: 'red', namespace: ns }, spec: { color: 'red' } };
const flown = await eventually('kites to be served', async () => {
  try {
    return await objects.create(kite);
  } catch {
    return undefined;
  }
});
show([flown.kind, flown.spec]);
step('objects of it');
show((await config.makeApiClient(k8s.CustomObjectsApi).listNamespacedCustomObject({ group: 'node.example.org', version: 'v1', namespace: ns, plural: 'kites' })).items.length);
await objects.delete({ apiVersion: 'apiextensions.k8s.io/v1', kind: 'CustomResourceDefinition', metadata: { name: 'kites.node.example.org' } });

await done(ns);
