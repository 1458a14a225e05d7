// The prediction for the test image that the address names.
pageAddress.follow('image', () => {
  const index = pageAddress.view().searchParams.get('image') ?? '';
  return /^[0-9]{1,8}$/.test(index) ? {asked: index} : null;
}, {element, trigger, watch});
