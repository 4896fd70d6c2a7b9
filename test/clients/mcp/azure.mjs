// Azure's SDK for JavaScript against the control plane, with its own credentials, told by environment
// variables alone. Usage: node azure.mjs POOL MODULE
import assert from 'node:assert/strict'
import { ClientSecretCredential, DefaultAzureCredential, EnvironmentCredential, ManagedIdentityCredential } from '@azure/identity'

const { ContainerAppsAPIClient } = await import(process.argv[3])
const { AZURE_CLIENT_ID: id, AZURE_CLIENT_SECRET: secret, AZURE_TENANT_ID: tenant } = process.env
const credentials = {
  ClientSecretCredential: () => new ClientSecretCredential(tenant, id, secret),
  EnvironmentCredential: () => new EnvironmentCredential(),
  ManagedIdentityCredential: () => new ManagedIdentityCredential(),
  DefaultAzureCredential: () => new DefaultAzureCredential(),
}
const group = 'default', name = 'azurejs', there = process.argv[2]
for (const [kind, make] of Object.entries(credentials)) {
  const azure = new ContainerAppsAPIClient(make(), process.env.AZURE_SUBSCRIPTION_ID, { endpoint: process.env.SANDPOOL_AZURE_ENDPOINT })
  const names = []
  for await (const p of azure.containerAppsSessionPools.listByResourceGroup(group)) names.push(p.name)
  assert(names.includes(there), `${kind}: ${names}`)
  console.log(`ok   ${kind}`)
  console.log('ok   list of the group')
}

const azure = new ContainerAppsAPIClient(new DefaultAzureCredential(), process.env.AZURE_SUBSCRIPTION_ID, { endpoint: process.env.SANDPOOL_AZURE_ENDPOINT })
const pools = azure.containerAppsSessionPools
const pool = {
  location: 'local', tags: { team: 'ml' },
  containerType: 'PythonLTS', poolManagementType: 'Dynamic',
  scaleConfiguration: { maxConcurrentSessions: 4, readySessionInstances: 0 },
  dynamicPoolConfiguration: { lifecycleConfiguration: { lifecycleType: 'Timed', cooldownPeriodInSeconds: 600 } },
  sessionNetworkConfiguration: { status: 'EgressDisabled' },
}
const wait = { updateIntervalInMs: 200 }
const made = await pools.beginCreateOrUpdateAndWait(group, name, pool, wait)
assert.equal(made.name, name)
assert.equal(made.provisioningState, 'Succeeded')
assert.match(made.poolManagementEndpoint, /^https:.*\/sessionPools\/azurejs$/)
console.log('ok   create')
const got = await pools.get(group, name)
assert.deepEqual([got.containerType, got.tags, got.scaleConfiguration.maxConcurrentSessions], ['PythonLTS', { team: 'ml' }, 4])
console.log('ok   get')
const bySubscription = []
for await (const p of pools.listBySubscription()) bySubscription.push(p.name)
assert(bySubscription.includes(name) && bySubscription.includes(there))
console.log('ok   list of the subscription')
const change = { scaleConfiguration: { maxConcurrentSessions: 5, readySessionInstances: 0 } }
const changed = await pools.beginUpdateAndWait(group, name, change, wait)
assert.equal(changed.scaleConfiguration.maxConcurrentSessions, 5)
assert.equal((await pools.get(group, name)).dynamicPoolConfiguration.lifecycleConfiguration.cooldownPeriodInSeconds, 600)
console.log('ok   update')
const wrong = { ...pool, scaleConfiguration: { maxConcurrentSessions: 1, readySessionInstances: 3 } }
await assert.rejects(pools.beginCreateOrUpdateAndWait(group, name, wrong, wait),
  (e) => e.statusCode === 400 && e.code === 'SessionPoolInvalidReadySessionInstances')
console.log('ok   a range that is wrong: RestError')
await pools.beginDeleteAndWait(group, name, wait)
await assert.rejects(pools.get(group, name), (e) => e.statusCode === 404)
console.log('ok   delete')
console.log('ok   get after delete: RestError')
