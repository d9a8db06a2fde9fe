// A person at a browser without a screen: follows redirects, keeps cookies, fills in the server's two forms.

/**
 * Logs in at `url`, consents, and goes where that leads.
 *
 * @returns the last answer: that of the redirect URI
 */
export async function consent(url, name = 'ann') {
  const cookies = new Map();
  let request = { url: new URL(url), method: 'GET', body: undefined };
  for (let step = 0; step < 20; step += 1) {
    const response = await fetch(request.url, {
      method: request.method,
      body: request.body,
      redirect: 'manual',
      headers: cookies.size ? { cookie: [...cookies].map(([key, value]) => `${key}=${value}`).join('; ') } : {},
    });
    for (const line of response.headers.getSetCookie()) {
      const [, key, value] = /^([^=]+)=([^;]*)/.exec(line);
      if (value) cookies.set(key, value);
      else cookies.delete(key);
    }
    const location = response.headers.get('location');
    if (location) {
      request = { url: new URL(location, request.url), method: 'GET' };
      continue;
    }
    const page = await response.text();
    const action = /<form[^>]* action="([^"]+)"/.exec(page)?.[1];
    if (!action || request.url.pathname.split('/')[1] !== 'interaction') return { status: response.status, url: request.url, page };
    const prompt = /name="prompt" value="([^"]+)"/.exec(page)[1];
    const fields = prompt === 'login' ? { prompt, login: name, password: 'anything' } : { prompt };
    request = { url: new URL(action, request.url), method: 'POST', body: new URLSearchParams(fields) };
  }
  throw new Error(`no end after 20 steps at ${request.url}`);
}
