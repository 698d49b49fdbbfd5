/* The page of the first, forced change of the password; leads on to where the user wanted to go. */
import { passwordForm } from './password_form.js';

passwordForm(() => {
  const next = new URLSearchParams(location.search).get('next') ?? '';
  const url = new URL(next || '/admin/dashboard', location.origin);
  const ours = url.origin === location.origin && /^\/admin\/(?!api\/|login|password)/.test(url.pathname);
  location.assign(ours ? url.pathname + url.search : '/admin/dashboard');
});
