// An issuer of OpenID Connect at a port of loopback, with keys that are new with every start. It says
// "ready" when it answers. Usage: node issuer.mjs PORT
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import Provider from 'oidc-provider'

const port = process.argv[2]
const client = (id) => ({
  client_id: id, client_secret: `secret of ${id}`, grant_types: ['client_credentials'],
  redirect_uris: [], response_types: [], token_endpoint_auth_method: 'client_secret_post',
})
const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [client('ann'), client('beth')],
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' }] },
  cookies: { keys: [randomUUID()] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_ctx, resource) => ({
        audience: resource, scope: '', accessTokenFormat: 'jwt', accessTokenTTL: 600,
        jwt: { sign: { alg: 'RS256' } },
      }),
    },
  },
})
provider.listen(Number(port), '127.0.0.1', () => console.log('ready'))
