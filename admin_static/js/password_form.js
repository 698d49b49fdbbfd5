/* The form to change one's own password, used by the forced change and by the account page. */
import { $, api, fieldError, onSubmit, t } from './core.js';

const LEAST = 10;

/** Wire the form; `done` runs after the server has taken the new password. */
export function passwordForm(done) {
  const form = $('#password-form');
  onSubmit(form, async () => {
    const { old, repeat, new: fresh } = form.elements;
    if ([...fresh.value].length < LEAST) return fieldError(fresh, t('password.short', { n: LEAST }));
    if (fresh.value === old.value) return fieldError(fresh, t('password.same'));
    if (fresh.value !== repeat.value) return fieldError(repeat, t('password.differs'));
    try {
      await api('POST', 'password', { old: old.value, new: fresh.value });
    } catch (error) {
      if (error.status === 401) return fieldError(old, t('password.wrong'));
      throw error;
    }
    form.reset();
    return done();
  });
}
