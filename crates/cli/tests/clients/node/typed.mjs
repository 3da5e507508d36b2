// The typed API of core kinds, and patches of every kind.
import * as k8s from '@kubernetes/client-node';
import { config, core, done, namespace, refused, show, step } from './_steps.mjs';

const ns = await namespace('node-typed');

step('create');
const made = await core.createNamespacedConfigMap({
  namespace: ns,
  body: { metadata: { name: 'settings', labels: { app: 'shop' } }, data: { color: 'blue' } },
});
show(made.data);
show(made.metadata.creationTimestamp instanceof Date);
step('create again');
await refused(() => core.createNamespacedConfigMap({ namespace: ns, body: { metadata: { name: 'settings' } } }));
step('read');
const read = await core.readNamespacedConfigMap({ namespace: ns, name: 'settings' });
show([read.kind, read.apiVersion, read.metadata.uid === made.metadata.uid]);
step('read of what is not there');
await refused(() => core.readNamespacedConfigMap({ namespace: ns, name: 'nothing' }));
step('replace');
const replaced = await core.replaceNamespacedConfigMap({
  namespace: ns,
  name: 'settings',
  body: { ...read, data: { color: 'red' } },
});
show(replaced.data);
step('replace of an old version');
await refused(() => core.replaceNamespacedConfigMap({ namespace: ns, name: 'settings', body: read }));
step('list');
const listed = await core.listNamespacedConfigMap({ namespace: ns, labelSelector: 'app=shop' });
show([listed.kind, listed.items.map((item) => item.metadata.name)]);
step('patch, json');
show(
  (
    await core.patchNamespacedConfigMap(
      { namespace: ns, name: 'settings', body: [{ op: 'add', path: '/data/size', value: '3' }] },
      k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.JsonPatch),
    )
  ).data,
);
step('patch, merge');
show(
  (
    await core.patchNamespacedConfigMap(
      { namespace: ns, name: 'settings', body: { data: { size: null } } },
      k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
    )
  ).data,
);
step('patch, strategic');
show(
  (
    await core.patchNamespacedConfigMap(
      { namespace: ns, name: 'settings', body: { data: { $patch: 'replace', only: 'this' } } },
      k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.StrategicMergePatch),
    )
  ).data,
);
step('apply');
show(
  (
    await core.patchNamespacedConfigMap(
      {
        namespace: ns,
        name: 'applied',
        fieldManager: 'node',
        body: { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'applied' }, data: { a: '1' } },
      },
      k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.ServerSideApply),
    )
  ).metadata.managedFields?.map((field) => [field.manager, field.operation, field.fieldsV1]),
);
step('secrets');
await core.createNamespacedSecret({ namespace: ns, body: { metadata: { name: 'hidden' }, stringData: { word: 'abc' } } });
show((await core.readNamespacedSecret({ namespace: ns, name: 'hidden' })).data);
step('leases keep their microseconds');
const coordination = config.makeApiClient(k8s.CoordinationV1Api);
await coordination.createNamespacedLease({
  namespace: ns,
  body: { metadata: { name: 'leader' }, spec: { holderIdentity: 'a', renewTime: new k8s.V1MicroTime('2026-01-02T03:04:05.678Z') } },
});
const { renewTime } = (await coordination.readNamespacedLease({ namespace: ns, name: 'leader' })).spec;
show(new Date(renewTime).getTime() === Date.UTC(2026, 0, 2, 3, 4, 5, 678));
step('a pod');
const pod = await core.createNamespacedPod({
  namespace: ns,
  body: { metadata: { name: 'sleeper' }, spec: { containers: [{ name: 'main', image: 'x' }], nodeSelector: { 'example.org/none': 'true' } } },
});
show([pod.spec.containers[0].name, pod.status.phase]);
step('delete');
show((await core.deleteNamespacedConfigMap({ namespace: ns, name: 'settings' })).status);
step('delete of a collection');
await core.deleteCollectionNamespacedConfigMap({ namespace: ns });
show((await core.listNamespacedConfigMap({ namespace: ns })).items.length);
step('may I');
const authorization = config.makeApiClient(k8s.AuthorizationV1Api);
const review = await authorization.createSelfSubjectAccessReview({
  body: { spec: { resourceAttributes: { verb: 'get', resource: 'pods', namespace: ns } } },
});
show(review.status.allowed);
step('the version');
show((await config.makeApiClient(k8s.VersionApi).getCode()).major);

await done(ns);
