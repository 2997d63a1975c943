// Preloaded into servers that would listen on every interface: a port alone means 127.0.0.1 here.
import net from 'node:net'

const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (port, ...rest) {
  const bare = (typeof port === 'number' || typeof port === 'string') && typeof rest[0] !== 'string'
  return listen.call(this, port, ...(bare ? ['127.0.0.1', ...rest] : rest))
}
