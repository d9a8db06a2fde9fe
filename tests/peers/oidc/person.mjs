// A person at a browser without a screen: follows redirects, keeps cookies, fills in the server's two forms.
import { once } from 'node:events';
import http from 'node:http';
import { text } from 'node:stream/consumers';

/** As a browser navigates. Not `fetch`, which says in every request that a script makes it. */
async function navigate({ url, method, body }, cookie) {
  const request = http.request(url, {
    method,
    headers: {
      'sec-fetch-mode': 'navigate',
      'sec-fetch-dest': 'document',
      'sec-fetch-site': 'none',
      ...(cookie && { cookie }),
      ...(body && { 'content-type': 'application/x-www-form-urlencoded' }),
    },
  });
  request.end(body && body.toString());
  const [response] = await once(request, 'response');
  return { status: response.statusCode, headers: response.headers, page: await text(response) };
}

/**
 * Logs in at `url`, consents, and goes where that leads.
 *
 * @returns the last answer: that of the redirect URI
 */
export async function consent(url, name = 'ann') {
  const cookies = new Map();
  let request = { url: new URL(url), method: 'GET', body: undefined };
  for (let step = 0; step < 20; step += 1) {
    const response = await navigate(request, [...cookies].map(([key, value]) => `${key}=${value}`).join('; '));
    for (const line of response.headers['set-cookie'] ?? []) {
      const [, key, value] = /^([^=]+)=([^;]*)/.exec(line);
      if (value) cookies.set(key, value);
      else cookies.delete(key);
    }
    const location = response.headers.location;
    if (location) {
      request = { url: new URL(location, request.url), method: 'GET' };
      continue;
    }
    const { page } = response;
    const action = /<form[^>]* action="([^"]+)"/.exec(page)?.[1];
    if (!action || request.url.pathname.split('/')[1] !== 'interaction') return { status: response.status, url: request.url, page };
    const prompt = /name="prompt" value="([^"]+)"/.exec(page)[1];
    const fields = prompt === 'login' ? { prompt, login: name, password: 'anything' } : { prompt };
    request = { url: new URL(action, request.url), method: 'POST', body: new URLSearchParams(fields) };
  }
  throw new Error(`no end after 20 steps at ${request.url}`);
}
