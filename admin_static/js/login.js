/* The log-in page: sends name and password, shows how long to wait after too many tries, and leads on. */
import { $, api, errorText, onSubmit, t } from './core.js';

const form = $('#login');
const box = $('[data-form-error]', form);
const submit = $('[type=submit]', form);

/** Where to go: only a page of ours, never another host. */
function target() {
  const next = new URLSearchParams(location.search).get('next') ?? '';
  const url = new URL(next || '/admin/dashboard', location.origin);
  const ours = url.origin === location.origin && url.pathname.startsWith('/admin/') && !/^\/admin\/(api\/|login)/.test(url.pathname);
  return ours ? url.pathname + url.search : '/admin/dashboard';
}

let waiting;

function wait(seconds) {
  clearInterval(waiting);
  const until = Date.now() + seconds * 1000;
  const tick = () => {
    const left = Math.ceil((until - Date.now()) / 1000);
    submit.disabled = left > 0;
    submit.textContent = left > 0 ? t('login.wait', { n: left }) : t('login.submit');
    if (left <= 0) clearInterval(waiting);
  };
  waiting = setInterval(tick, 250);
  setTimeout(tick); // after the form has given the button back
}

onSubmit(form, async () => {
  const { username, password } = form.elements;
  try {
    const me = await api('POST', 'login', { username: username.value.trim(), password: password.value });
    const next = target();
    location.assign(me.must_change ? `/admin/password?next=${encodeURIComponent(next)}` : next);
    await new Promise(() => {}); // the button stays busy until the next page is there
  } catch (error) {
    if (error.status === 429) {
      box.textContent = t('login.too_many');
      wait(Math.max(1, error.retryAfter));
      return;
    }
    box.textContent = error.status === 401 ? t('login.wrong') : errorText(error);
    if (error.status === 401) {
      password.select();
      password.focus();
    }
  }
});
