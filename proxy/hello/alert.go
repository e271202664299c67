package hello

import "strconv"

var alertNames = map[uint8]string{
	0:   "close_notify",
	10:  "unexpected_message",
	20:  "bad_record_mac",
	21:  "decryption_failed",
	22:  "record_overflow",
	30:  "decompression_failure",
	40:  "handshake_failure",
	41:  "no_certificate",
	42:  "bad_certificate",
	43:  "unsupported_certificate",
	44:  "certificate_revoked",
	45:  "certificate_expired",
	46:  "certificate_unknown",
	47:  "illegal_parameter",
	48:  "unknown_ca",
	49:  "access_denied",
	50:  "decode_error",
	51:  "decrypt_error",
	60:  "export_restriction",
	70:  "protocol_version",
	71:  "insufficient_security",
	80:  "internal_error",
	86:  "inappropriate_fallback",
	90:  "user_canceled",
	100: "no_renegotiation",
	109: "missing_extension",
	110: "unsupported_extension",
	111: "certificate_unobtainable",
	112: "unrecognized_name",
	113: "bad_certificate_status_response",
	114: "bad_certificate_hash_value",
	115: "unknown_psk_identity",
	116: "certificate_required",
	120: "no_application_protocol",
	121: "ech_required",
}

// AlertName returns the name of an alert in RFC 8446 section 6, such as
// "handshake_failure"; what appendix B.2 marks as reserved goes by its older
// name, without the mark. An unknown code is "alert_123".
func AlertName(code uint8) string {
	if name, ok := alertNames[code]; ok {
		return name
	}
	return "alert_" + strconv.Itoa(int(code))
}

// AlertAtEnd says in which version of TLS b, which one side of an established
// session sent, ends with an alert record, its close_notify as far as one sees
// without the keys: 0x0304, 0x0303 for that and the older ones, or 0 for none. A
// sealed alert is known by its size: in TLS 1.3 by that of two octets of data.
func AlertAtEnd(b []byte) (version uint16) {
	for _, a := range &closeNotifies {
		if len(b) < headerSize+a.size {
			continue
		}
		r := b[len(b)-headerSize-a.size:]
		if r[0] == a.typ && r[1] == 3 && r[3] == 0 && int(r[4]) == a.size {
			return a.version
		}
	}
	return 0
}

// closeNotifies are the record types and body sizes that an alert comes in (RFC
// 8446 section 5.2, RFC 5246 section 6.2.3, RFC 7905).
var closeNotifies = [...]struct {
	typ     byte
	size    int
	version uint16
}{
	{recordData, alertSize + 1 + 16, 0x0304},
	{recordData, alertSize + 1 + 8, 0x0304},                                         // CCM_8
	{recordAlert, 8 + alertSize + 16, 0x0303},                                       // GCM, CCM
	{recordAlert, 8 + alertSize + 8, 0x0303},                                        // CCM_8
	{recordAlert, alertSize + 16, 0x0303},                                           // ChaCha20-Poly1305
	{recordAlert, alertSize + 20, 0x0303},                                           // RC4
	{recordAlert, alertSize, 0x0303},                                                // before ChangeCipherSpec
	{recordAlert, 24, 0x0303}, {recordAlert, 32, 0x0303}, {recordAlert, 40, 0x0303}, // CBC
	{recordAlert, 48, 0x0303}, {recordAlert, 64, 0x0303}, {recordAlert, 80, 0x0303},
}
