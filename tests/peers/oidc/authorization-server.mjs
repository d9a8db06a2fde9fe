// A certified authorization server on loopback: clients, scopes and lifetimes as a test wants them.
import { once } from 'node:events';
import http from 'node:http';

import { Provider } from 'oidc-provider';

const ALGORITHMS = ['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA', 'Ed25519', 'HS256'];

/**
 * Starts the server on a free port.
 *
 * @param {object[]} clients client metadata; `grant_types` and the like are filled in
 * @param {{ lifetime?: number, logins?: boolean }} [settings] `lifetime`: of access tokens, in seconds; `logins`: whether people may log in,
 *   with any name and password. Their refresh tokens are good for one use, and using a spent one revokes the grant
 */
export async function startAuthorizationServer(clients, { lifetime = 3600, logins = false } = {}) {
  const server = http.createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const issuer = `http://127.0.0.1:${server.address().port}`;

  const log = { tokenRequests: [], tokenResponses: [] };
  const provider = new Provider(issuer, {
    clients: [
      ...clients.map((client) => ({
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
        ...client,
      })),
      {
        client_id: 'introspector',
        client_secret: 'introspector-secret',
        token_endpoint_auth_method: 'client_secret_basic',
        grant_types: [],
        redirect_uris: [],
        response_types: [],
      },
    ],
    scopes: ['api:read', 'api:write'],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: logins },
      introspection: { enabled: true, allowedPolicy: () => true },
    },
    ttl: { ClientCredentials: () => lifetime, AccessToken: () => lifetime },
    issueRefreshToken: () => logins,
    rotateRefreshToken: true,
    revokeGrantPolicy: () => true,
    findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    ...(logins && { cookies: { keys: ['for', 'tests'] } }),
    enabledJWA: { clientAuthSigningAlgValues: ALGORITHMS },
    // The server refuses to fetch from loopback by default; here bursar's key set is there.
    fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'client_secret_jwt', 'private_key_jwt', 'none'],
  });
  provider.use(async (context, next) => {
    await next();
    if (context.path === '/token') {
      log.tokenRequests.push({ ...context.oidc?.params });
      log.tokenResponses.push({ status: context.status, ...context.body });
    }
  });
  const errors = [];
  provider.on('grant.error', (_context, error) => errors.push(`${error.error}: ${error.error_detail ?? ''} ${error.cause?.error_description ?? error.error_description ?? ''}`));
  provider.on('server_error', (_context, error) => errors.push(`server_error: ${error.stack}`));
  server.on('request', provider.callback());

  return {
    provider,
    issuer,
    tokenUrl: `${issuer}/token`,
    log,
    errors,
    /** RFC 7662. */
    async introspect(token) {
      const response = await fetch(`${issuer}/token/introspection`, {
        method: 'POST',
        headers: { authorization: `Basic ${Buffer.from('introspector:introspector-secret').toString('base64')}` },
        body: new URLSearchParams({ token }),
      });
      return response.json();
    },
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}
