// The server of the tests of the group http, with one thread for all requests.
const http = require('http');
const net = require('net');

const server = http.createServer((request, response) => {
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
