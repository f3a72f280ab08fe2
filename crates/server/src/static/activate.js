// Takes the link's secret out of the address bar and into the form.
const token = document.getElementById("token");
if (token && location.hash.length > 1) {
  token.value = location.hash.slice(1);
  token.readOnly = true;
  history.replaceState(null, "", location.pathname);
  document.getElementById("password").focus();
}
