// The upstream: it asks the authorization server about every token that it is shown, and says what it was told.
import { once } from 'node:events';
import http from 'node:http';

export async function startResourceServer(authorizationServer) {
  const requests = [];
  const server = http.createServer(async (request, response) => {
    const [scheme, token] = (request.headers.authorization ?? '').split(' ');
    const told = scheme === 'Bearer' ? await authorizationServer.introspect(token) : { active: false };
    requests.push({ method: request.method, url: request.url, headers: request.headers, told });
    request.resume();
    const body = JSON.stringify({ active: told.active, scope: told.scope ?? '', client_id: told.client_id });
    response.writeHead(told.active ? 200 : 401, { 'content-type': 'application/json' });
    response.end(body);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    origin: `http://127.0.0.1:${server.address().port}`,
    requests,
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}
