// The server of the tests of the group http, with one thread for all requests.
// When TLS_FILE names a file with a key and a certificate, it serves over TLS.
const fs = require('fs');
const http = require('http');
const https = require('https');
const net = require('net');

const file = process.env.TLS_FILE && fs.readFileSync(process.env.TLS_FILE);
const create = (handler) => (file ? https.createServer({key: file, cert: file}, handler) : http.createServer(handler));
const server = create((request, response) => {
  const query = new URL(request.url, 'http://localhost').searchParams;
  const [host, port] = query.get('to').split(':');
  const dial = () => {
    const socket = net.connect(Number(port), host);
    socket.on('connect', () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', () => response.end('done'));
  };
  const deep = (n) => (n ? deep(n - 1) : dial());
  if (query.has('deep')) setTimeout(deep, Math.random() * 10, 500);
  else if (query.has('sleep')) setTimeout(dial, Math.random() * 10);
  else if (query.has('immediate')) setImmediate(dial);
  else dial();
});
server.listen(0, '127.0.0.1', 128, () => console.log(`127.0.0.1:${server.address().port}`));
